-- Each statement has a name. {rows} stands for as many bracketed tuples of parameters as there are rows.

-- name: thread
SELECT thread_id, epoch, token, seq, head, inbox, status, reason, run, runs, owner, crashes, waits, updated_at,
    graph, version, graph_key, driver, wake_at, retention, names, floor, tidied, origin_thread, origin_seq, metadata,
    tags, created_at, isolation, number
FROM threads WHERE thread_id = ?

-- name: list_threads
SELECT thread_id, epoch, token, seq, head, inbox, status, reason, run, runs, owner, crashes, waits, updated_at,
    graph, version, graph_key, driver, wake_at, retention, names, floor, tidied, origin_thread, origin_seq, metadata,
    tags, created_at, isolation, number
FROM threads WHERE {conditions} ORDER BY number DESC LIMIT ?

-- name: where_tag
EXISTS (SELECT 1 FROM json_each(threads.tags) AS item WHERE item.value = ?)

-- name: where_constant
EXISTS (SELECT 1 FROM json_each(threads.metadata) AS item WHERE item.key = ? AND item.type = ?)

-- name: where_text
EXISTS (SELECT 1 FROM json_each(threads.metadata) AS item WHERE item.key = ? AND item.type = 'text' AND item.value = ?)

-- name: where_number
EXISTS (
    SELECT 1 FROM json_each(threads.metadata) AS item
    WHERE item.key = ? AND item.type IN ('integer', 'real') AND item.value = ?
)

-- name: where_nested
EXISTS (
    SELECT 1 FROM json_each(threads.metadata) AS item
    WHERE item.key = ? AND item.type IN ('array', 'object') AND item.value = ?
)

-- name: insert_thread
INSERT INTO threads (
    thread_id, epoch, token, seq, head, inbox, status, reason, run, runs, owner, crashes, waits, updated_at,
    graph, version, graph_key, driver, wake_at, retention, names, floor, tidied, origin_thread, origin_seq, metadata,
    tags, created_at, isolation
) VALUES {rows}

-- name: update_thread
UPDATE threads SET epoch = ?2, token = ?3, seq = ?4, head = ?5, inbox = ?6, status = ?7, reason = ?8, run = ?9,
    runs = ?10, owner = ?11, crashes = ?12, waits = ?13, updated_at = ?14, graph = ?15, version = ?16, graph_key = ?17,
    driver = ?18, wake_at = ?19, retention = ?20, names = ?21, floor = ?22, tidied = ?23
WHERE thread_id = ?1

-- name: set_tags
UPDATE threads SET tags = ?2 WHERE thread_id = ?1

-- name: set_origin
UPDATE threads SET origin_thread = ?2, origin_seq = ?3 WHERE thread_id = ?1

-- name: replace_thread
UPDATE threads SET epoch = ?2, token = ?3, seq = ?4, head = ?5, inbox = ?6, status = ?7, reason = ?8, run = ?9,
    runs = ?10, owner = ?11, crashes = ?12, waits = ?13, updated_at = ?14, graph = ?15, version = ?16, graph_key = ?17,
    driver = ?18, wake_at = ?19, retention = ?20, names = ?21, floor = ?22, tidied = ?23, origin_thread = ?24,
    origin_seq = ?25, metadata = ?26, tags = ?27, created_at = ?28, isolation = ?29
WHERE thread_id = ?1

-- name: due
-- The plus: by the index of statuses, all parked threads would be read for the few that are due.
SELECT thread_id, epoch, token, seq, head, inbox, status, reason, run, runs, owner, crashes, waits, updated_at,
    graph, version, graph_key, driver, wake_at, retention, names, floor, tidied, origin_thread, origin_seq, metadata,
    tags, created_at, isolation, number
FROM threads
WHERE wake_at > 0 AND wake_at <= ? AND +status IN ('interrupted', 'sleeping', 'waiting', 'paused')
ORDER BY wake_at, number LIMIT ?

-- name: forks
SELECT thread_id, origin_seq FROM threads WHERE origin_thread = ? ORDER BY origin_seq, number

-- name: number_of
SELECT number FROM threads WHERE thread_id = ?

-- name: delete_segments
DELETE FROM segments WHERE thread = ?

-- name: delete_messages
DELETE FROM messages WHERE thread = ?

-- name: delete_runs
DELETE FROM runs WHERE thread = ?

-- name: delete_thread
DELETE FROM threads WHERE number = ?

-- name: look
-- One row whatever the size of the group: each further row would be one more chance to lose the GIL.
WITH checked (thread_id, first) AS (VALUES {rows})
SELECT json_group_array(json_array(
    threads.thread_id, threads.number, threads.epoch, threads.token, threads.seq, threads.inbox,
    coalesce(segments.commit_id, '')
))
FROM checked
CROSS JOIN threads ON threads.thread_id = checked.thread_id
LEFT JOIN segments ON segments.thread = threads.number AND segments.first = checked.first

-- name: commit_threads
-- Status is not among the columns: it is indexed, and most commits do not change it.
-- The rows come in a subquery, since the driver counts changed rows only where a statement begins with UPDATE.
UPDATE threads SET
    seq = done.last,
    head = coalesce(done.head, threads.head),
    reason = coalesce(done.reason, threads.reason),
    run = coalesce(done.run, threads.run),
    runs = max(threads.runs, done.runs),
    waits = coalesce(done.waits, threads.waits),
    token = CASE WHEN done."release" THEN '' ELSE threads.token END,
    owner = CASE WHEN done."release" THEN '' ELSE threads.owner END,
    crashes = CASE WHEN done.progress THEN 0 ELSE threads.crashes END,
    updated_at = coalesce(done.at, threads.updated_at)
FROM (
    WITH input (number, epoch, token, first, last, head, reason, run, runs, waits, "release", progress, at)
        AS (VALUES {rows})
    SELECT * FROM input
) AS done
WHERE threads.number = done.number AND threads.epoch = done.epoch AND threads.token = done.token
    AND threads.seq = done.first - 1

-- name: commit_step
-- A commit by itself that is no more than a step: most are. Returns nothing where it is not accepted.
UPDATE threads SET seq = ?5, head = coalesce(?6, head), crashes = CASE WHEN ?7 THEN 0 ELSE crashes END,
    updated_at = coalesce(?8, updated_at)
WHERE thread_id = ?1 AND epoch = ?2 AND token = ?3 AND seq = ?4 - 1
RETURNING number, inbox

-- name: commit_step_segment
INSERT INTO segments (thread, first, last, epoch, commit_id, data) VALUES (?, ?, ?, ?, ?, ?)

-- name: commit_statuses
UPDATE threads SET status = done.status
FROM (WITH input (number, last, status) AS (VALUES {rows}) SELECT * FROM input) AS done
WHERE threads.number = done.number AND threads.seq = done.last

-- name: commit_wakes
UPDATE threads SET wake_at = done.wake_at
FROM (WITH input (number, last, wake_at) AS (VALUES {rows}) SELECT * FROM input) AS done
WHERE threads.number = done.number AND threads.seq = done.last

-- name: commit_segments
INSERT INTO segments (thread, first, last, epoch, commit_id, data) VALUES {rows}

-- name: commit_runs
INSERT INTO runs (thread, run, status, "end", reason, error, metadata, created_at, ended_at) VALUES {rows}
ON CONFLICT (thread, run) DO UPDATE SET status = excluded.status, "end" = excluded."end", reason = excluded.reason,
    error = excluded.error, ended_at = excluded.ended_at

-- name: commit_applied
UPDATE messages SET applied = done.seq
FROM (WITH input (thread, number, seq) AS (VALUES {rows}) SELECT * FROM input) AS done
WHERE messages.thread = done.thread AND messages.number = done.number AND messages.applied = 0

-- name: message
SELECT messages.message_id, messages.kind, messages.payload, messages.number, messages.run, messages.created_at,
    messages.applied, messages.name
FROM messages JOIN threads ON threads.number = messages.thread
WHERE threads.thread_id = ? AND messages.message_id = ?

-- name: messages
SELECT messages.message_id, messages.kind, messages.payload, messages.number, messages.run, messages.created_at,
    messages.applied, messages.name
FROM messages JOIN threads ON threads.number = messages.thread
WHERE threads.thread_id = ? ORDER BY messages.number

-- name: unread_messages
SELECT messages.message_id, messages.kind, messages.payload, messages.number, messages.run, messages.created_at,
    messages.applied, messages.name
FROM messages JOIN threads ON threads.number = messages.thread
WHERE threads.thread_id = ? AND messages.applied = 0 ORDER BY messages.number

-- name: insert_message
INSERT INTO messages (thread, number, message_id, kind, payload, run, created_at, applied, name)
SELECT number, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM threads WHERE thread_id = ?1

-- name: insert_run
INSERT INTO runs (thread, run, status, "end", reason, error, metadata, created_at, ended_at)
SELECT number, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM threads WHERE thread_id = ?1
ON CONFLICT DO NOTHING

-- name: runs
SELECT run, status, "end", reason, error, metadata, created_at, ended_at FROM runs WHERE thread = ? ORDER BY run

-- name: segments
-- Segments do not overlap: the one that covers `first` is the last that begins at or before it.
WITH own (number) AS (SELECT number FROM threads WHERE thread_id = :thread_id),
low (first) AS (
    SELECT coalesce(max(segments.first), :first) FROM own JOIN segments ON segments.thread = own.number
    WHERE segments.first <= :first
)
SELECT first, last, epoch, commit_id, data FROM segments
WHERE thread = (SELECT number FROM own) AND first >= (SELECT first FROM low) AND first <= :last AND last >= :first
ORDER BY first DESC LIMIT :limit

-- name: renew
INSERT INTO owners (owner, counter, host, pid, started, threads) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (owner) DO UPDATE SET counter = excluded.counter, host = excluded.host, pid = excluded.pid,
    started = excluded.started, threads = excluded.threads
WHERE NOT (owners.host = excluded.host AND owners.pid = excluded.pid AND owners.started = excluded.started
    AND excluded.counter < owners.counter)

-- name: owners
SELECT owner, counter, host, pid, started, threads FROM owners ORDER BY owner

-- name: forget
DELETE FROM owners WHERE owner = ?

-- name: put_graph
INSERT INTO graphs (graph_key, name, version, kind, body, signature, paths) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (graph_key) DO NOTHING

-- name: graph
SELECT graph_key, name, version, kind, body, signature, paths FROM graphs WHERE graph_key = ?

-- name: old_segments
SELECT first, last, commit_id FROM segments WHERE thread = ? AND first >= ? AND first <= ? ORDER BY first

-- name: newest
SELECT last, commit_id FROM segments WHERE thread = ? AND first <= ? ORDER BY first DESC LIMIT 1

-- name: drop_segments
DELETE FROM segments WHERE thread = ? AND first >= ? AND first <= ?

-- name: add_segments
INSERT INTO segments (thread, first, last, epoch, commit_id, data) VALUES {rows} ON CONFLICT DO NOTHING

-- name: graph_keys
SELECT graph_key FROM graphs ORDER BY graph_key

-- name: setting
SELECT value FROM settings WHERE name = ?

-- name: put_setting
INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: drop_setting
DELETE FROM settings WHERE name = ?

-- name: count_statuses
SELECT status, count(*) FROM threads GROUP BY status

-- name: count_payloads
SELECT (SELECT count(*) FROM segments), (SELECT coalesce(sum(length(data)), 0) FROM segments),
    (SELECT count(*) FROM messages), (SELECT coalesce(sum(length(payload)), 0) FROM messages),
    (SELECT count(*) FROM graphs), (SELECT count(*) FROM owners)
