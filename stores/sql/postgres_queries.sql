-- Each statement has a name. {schema} is the database schema's name; other names in braces are the fragments right below.
-- Records come as one JSON parameter: its type never changes, so each statement is prepared once.

-- name: thread_columns
thread_id, epoch, token, seq, head, inbox, status, reason, run, runs, owner, crashes, waits, updated_at, graph, version,
    graph_key, driver, wake_at, retention, names, floor, tidied, origin_thread, origin_seq, metadata, tags, created_at,
    isolation

-- name: thread_fields
    thread_id text, epoch bigint, token text, seq bigint, head bigint, inbox bigint, status text, reason text, run bigint,
    runs bigint, owner text, crashes bigint, waits text[], updated_at double precision, graph text, version text,
    graph_key text, driver text, wake_at double precision, retention json, names json, floor bigint, tidied bigint,
    origin_thread text, origin_seq bigint, metadata json, tags text[], created_at double precision,
    isolation text

-- name: thread_input
json_to_record($1::json) AS input ({thread_fields})

-- name: message_columns
message_id, kind, payload, messages.number, messages.run, messages.created_at, applied, name

-- name: run_columns
runs.run, runs.status, "end", runs.reason, error, runs.metadata, runs.created_at, ended_at

-- name: listed
-- A parameter that is null is no condition.
number < $1::bigint
    AND ($2::text IS NULL OR graph = $2)
    AND ($3::text IS NULL OR driver = $3)
    AND ($4::text IS NULL OR owner = $4)
    AND ($5::text IS NULL OR (tags <> '{{}}' AND tags @> ARRAY[$5]))
    AND ($6::bigint IS NULL OR seq - tidied >= $6)
    AND ($7::double precision IS NULL OR updated_at < $7)
    AND ($8::jsonb IS NULL OR (metadata::text <> '{{}}' AND metadata::jsonb @> $8))
    AND ($9::json IS NULL OR NOT EXISTS (
        SELECT FROM json_each($9) AS wanted
        WHERE coalesce((metadata -> wanted.key)::text, '') NOT IN (SELECT json_array_elements_text(wanted.value))
    ))

-- name: list_threads
SELECT {thread_columns}, number FROM {schema}.threads WHERE {listed} ORDER BY number DESC LIMIT $10

-- name: list_by_status
-- Each status walks its part of the index in order, where one query for all would sort them all.
SELECT {thread_columns}, number FROM unnest($11::text[]) AS wanted (state) CROSS JOIN LATERAL (
    SELECT * FROM {schema}.threads WHERE status = wanted.state AND {listed} ORDER BY number DESC LIMIT $10
) AS found
ORDER BY number DESC LIMIT $10

-- name: thread
SELECT {thread_columns} FROM {schema}.threads WHERE thread_id = $1

-- name: lock_thread
SELECT {thread_columns} FROM {schema}.threads WHERE thread_id = $1 FOR NO KEY UPDATE

-- name: lock_rows
SELECT {thread_columns} FROM {schema}.threads WHERE thread_id = ANY($1::text[]) ORDER BY thread_id FOR NO KEY UPDATE

-- name: find_threads
SELECT {thread_columns} FROM {schema}.threads WHERE thread_id = ANY($1::text[])

-- name: due
SELECT {thread_columns} FROM {schema}.threads
WHERE wake_at > 0 AND wake_at <= $1 AND status IN ('interrupted', 'sleeping', 'waiting', 'paused')
ORDER BY wake_at, number LIMIT $2

-- name: insert_thread
INSERT INTO {schema}.threads ({thread_columns}) SELECT {thread_columns} FROM {thread_input}

-- name: create_threads
-- Many threads, each with its first message and the run that it is allotted, if it has any. Returns those that are new.
WITH made AS (
    INSERT INTO {schema}.threads ({thread_columns})
    SELECT {thread_columns} FROM json_to_recordset($1::json) AS input ({thread_fields})
    ON CONFLICT (thread_id) DO NOTHING
    RETURNING number, thread_id
),
sent AS (
    INSERT INTO {schema}.messages (thread, number, message_id, kind, name, payload, run, created_at, applied)
    SELECT made.number, input.number, input.message_id, input.kind, input.name,
        substring($3::bytea FROM start FOR size), input.run, input.created_at, input.applied
    FROM json_to_recordset($2::json) AS input (
        thread_id text, number bigint, message_id text, kind text, name text, run bigint,
        created_at double precision, applied bigint, start integer, size integer
    ) JOIN made ON made.thread_id = input.thread_id
),
allotted AS (
    INSERT INTO {schema}.runs (thread, run, status, "end", reason, error, metadata, created_at, ended_at)
    SELECT made.number, input.run, input.status, input."end", input.reason, ''::bytea, input.metadata,
        input.created_at, input.ended_at
    FROM json_to_recordset($4::json) AS input (
        thread_id text, run bigint, status text, "end" bigint, reason text, metadata json,
        created_at double precision, ended_at double precision
    ) JOIN made ON made.thread_id = input.thread_id
)
SELECT thread_id FROM made

-- name: take_threads
-- Claims of different threads: each takes the one whose epoch is the one that was seen. `held` locks the rows in the
-- order of the input (that of the ids) and sees their newest state. Returns the rows that were taken.
WITH input AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1::json) AS input (
        claimed text, seen bigint, new_token text, new_owner text, crashed boolean, at double precision
    )
),
held AS MATERIALIZED (
    SELECT input.*, row.place, row.held
    FROM input CROSS JOIN LATERAL (
        SELECT number AS place, epoch AS present, token <> '' AS held
        FROM {schema}.threads WHERE threads.thread_id = input.claimed FOR NO KEY UPDATE
    ) AS row
    WHERE row.present = input.seen
)
UPDATE {schema}.threads SET
    epoch = held.seen + 1,
    token = held.new_token,
    owner = held.new_owner,
    status = CASE WHEN threads.status IN ('queued', 'running') THEN 'running' ELSE threads.status END,
    crashes = threads.crashes + CASE WHEN held.crashed AND held.held THEN 1 ELSE 0 END,
    updated_at = coalesce(held.at, threads.updated_at)
FROM held WHERE threads.number = held.place
RETURNING {thread_columns}

-- name: update_thread
UPDATE {schema}.threads SET epoch = input.epoch, token = input.token, seq = input.seq, head = input.head,
    inbox = input.inbox, status = input.status, reason = input.reason, run = input.run, runs = input.runs,
    owner = input.owner, crashes = input.crashes, waits = input.waits, updated_at = input.updated_at,
    graph = input.graph, version = input.version, graph_key = input.graph_key, driver = input.driver,
    wake_at = input.wake_at, retention = input.retention, names = input.names, floor = input.floor,
    tidied = input.tidied
FROM {thread_input} WHERE threads.thread_id = input.thread_id

-- name: set_tags
UPDATE {schema}.threads SET tags = $2::text[] WHERE thread_id = $1

-- name: replace_thread
UPDATE {schema}.threads SET epoch = input.epoch, token = input.token, seq = input.seq, head = input.head,
    inbox = input.inbox, status = input.status, reason = input.reason, run = input.run, runs = input.runs,
    owner = input.owner, crashes = input.crashes, waits = input.waits, updated_at = input.updated_at,
    graph = input.graph, version = input.version, graph_key = input.graph_key, driver = input.driver,
    wake_at = input.wake_at, retention = input.retention, names = input.names, floor = input.floor,
    tidied = input.tidied, origin_thread = input.origin_thread, origin_seq = input.origin_seq,
    metadata = input.metadata, tags = input.tags, created_at = input.created_at, isolation = input.isolation
FROM {thread_input} WHERE threads.thread_id = input.thread_id

-- name: forks
SELECT thread_id, origin_seq FROM {schema}.threads WHERE origin_thread = $1 ORDER BY origin_seq, number

-- name: delete_segments
DELETE FROM {schema}.segments WHERE thread = (SELECT number FROM {schema}.threads WHERE thread_id = $1)

-- name: delete_messages
DELETE FROM {schema}.messages WHERE thread = (SELECT number FROM {schema}.threads WHERE thread_id = $1)

-- name: delete_runs
DELETE FROM {schema}.runs WHERE thread = (SELECT number FROM {schema}.threads WHERE thread_id = $1)

-- name: delete_thread
DELETE FROM {schema}.threads WHERE thread_id = $1

-- name: commit
-- A group of commits of different threads. `held` locks the rows in the order of the input (that of the ids) and sees
-- their newest state; all that is written comes from `accepted`. Returns the threads whose commit was accepted or
-- whose inbox alone is another; about the others this statement's snapshot, older than the locks, cannot tell.
WITH input AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1::json) AS input (
        thread_id text, epoch bigint, token text, first bigint, last bigint, commit_id text, start integer, size integer,
        head bigint, status text, reason text, run bigint, highest bigint, waits text[], wake_at double precision,
        applied bigint[], applied_by bigint[], ends json, expect_inbox bigint, release boolean, progress boolean,
        at double precision
    )
),
held AS MATERIALIZED (
    SELECT input.*, row.number, row.inbox, coalesce(row.inbox = input.expect_inbox, true) AS expected
    FROM input CROSS JOIN LATERAL (
        SELECT number, epoch, token, seq, inbox FROM {schema}.threads WHERE threads.thread_id = input.thread_id
        FOR NO KEY UPDATE
    ) AS row
    WHERE row.epoch = input.epoch AND row.token = input.token AND row.seq = input.first - 1
),
accepted AS (SELECT * FROM held WHERE expected),
written AS (
    UPDATE {schema}.threads SET
        seq = accepted.last,
        head = coalesce(accepted.head, threads.head),
        status = coalesce(accepted.status, threads.status),
        reason = coalesce(accepted.reason, threads.reason),
        run = coalesce(accepted.run, threads.run),
        runs = greatest(accepted.highest, threads.runs),
        waits = coalesce(accepted.waits, threads.waits),
        wake_at = coalesce(accepted.wake_at, threads.wake_at),
        token = CASE WHEN accepted.release THEN '' ELSE threads.token END,
        owner = CASE WHEN accepted.release THEN '' ELSE threads.owner END,
        crashes = CASE WHEN accepted.progress THEN 0 ELSE threads.crashes END,
        updated_at = coalesce(accepted.at, threads.updated_at)
    FROM accepted WHERE threads.number = accepted.number
),
kept AS (
    INSERT INTO {schema}.segments (thread, first, last, epoch, commit_id, data)
    SELECT number, first, last, epoch, commit_id, substring($2::bytea FROM start FOR size) FROM accepted
),
read AS (
    UPDATE {schema}.messages SET applied = mark.seq
    FROM accepted CROSS JOIN LATERAL unnest(accepted.applied, accepted.applied_by) AS mark (number, seq)
    WHERE messages.thread = accepted.number AND messages.number = mark.number AND messages.applied = 0
),
changed AS (
    INSERT INTO {schema}.runs (thread, run, status, "end", reason, error, metadata, created_at, ended_at)
    SELECT accepted.number, run.run, run.status, run."end", run.reason, substring($2 FROM run.start FOR run.size),
        '{{}}', run.created_at, run.ended_at
    FROM accepted CROSS JOIN LATERAL json_to_recordset(accepted.ends) AS run (
        run bigint, status text, "end" bigint, reason text, start integer, size integer, created_at double precision,
        ended_at double precision
    )
    ON CONFLICT (thread, run) DO UPDATE SET status = excluded.status, "end" = excluded."end",
        reason = excluded.reason, error = excluded.error, ended_at = excluded.ended_at
)
SELECT thread_id, inbox, expected FROM held

-- name: commit_step
-- A commit by itself that is no more than a step: most are. As `commit` does, but the planner's and the executor's work
-- for groups, messages and runs takes as long as writing to the disk. Waits for the row's lock and then looks at its
-- newest state; returns nothing where the commit is not accepted.
WITH accepted AS (
    UPDATE {schema}.threads SET
        seq = $5::bigint,
        head = coalesce($6::bigint, head),
        crashes = CASE WHEN $7::boolean THEN 0 ELSE crashes END,
        updated_at = coalesce($8::double precision, updated_at)
    WHERE thread_id = $1::text AND epoch = $2::bigint AND token = $3::text AND seq = $4::bigint - 1
    RETURNING number, inbox
),
kept AS (
    INSERT INTO {schema}.segments (thread, first, last, epoch, commit_id, data)
    SELECT number, $4, $5, $2, $9::text, $10::bytea FROM accepted
)
SELECT inbox FROM accepted

-- name: lock_threads
SELECT thread_id, epoch, token, seq, inbox FROM {schema}.threads WHERE thread_id = ANY($1::text[]) ORDER BY thread_id
FOR NO KEY UPDATE

-- name: commit_ids
SELECT threads.thread_id, segments.commit_id
FROM unnest($1::text[], $2::bigint[]) AS asked (thread_id, first)
JOIN {schema}.threads ON threads.thread_id = asked.thread_id
JOIN {schema}.segments ON segments.thread = threads.number AND segments.first = asked.first

-- name: set_origin
UPDATE {schema}.threads SET origin_thread = $2::text, origin_seq = $3::bigint WHERE thread_id = $1

-- name: message
SELECT {message_columns} FROM {schema}.messages JOIN {schema}.threads ON threads.number = messages.thread
WHERE threads.thread_id = $1 AND messages.message_id = $2

-- name: messages
SELECT {message_columns} FROM {schema}.messages JOIN {schema}.threads ON threads.number = messages.thread
WHERE threads.thread_id = $1 ORDER BY messages.number

-- name: unread_messages
SELECT {message_columns} FROM {schema}.messages JOIN {schema}.threads ON threads.number = messages.thread
WHERE threads.thread_id = $1 AND messages.applied = 0 ORDER BY messages.number

-- name: insert_message
INSERT INTO {schema}.messages (thread, number, message_id, kind, name, payload, run, created_at, applied)
SELECT threads.number, input.number, input.message_id, input.kind, input.name, $2, input.run, input.created_at,
    input.applied
FROM json_to_record($1::json) AS input (
    thread_id text, number bigint, message_id text, kind text, name text, run bigint, created_at double precision,
    applied bigint
) JOIN {schema}.threads ON threads.thread_id = input.thread_id

-- name: insert_run
INSERT INTO {schema}.runs (thread, run, status, "end", reason, error, metadata, created_at, ended_at)
SELECT threads.number, input.run, input.status, input."end", input.reason, $2, input.metadata, input.created_at,
    input.ended_at
FROM json_to_record($1::json) AS input (
    thread_id text, run bigint, status text, "end" bigint, reason text, metadata json, created_at double precision,
    ended_at double precision
) JOIN {schema}.threads ON threads.thread_id = input.thread_id
ON CONFLICT DO NOTHING

-- name: runs
-- One row of nulls for a thread without runs, none for a thread that is not there.
SELECT {run_columns} FROM {schema}.threads LEFT JOIN {schema}.runs ON runs.thread = threads.number
WHERE thread_id = $1 ORDER BY runs.run

-- name: runs_of_many
SELECT thread_id, {run_columns} FROM {schema}.threads JOIN {schema}.runs ON runs.thread = threads.number
WHERE thread_id = ANY($1::text[]) ORDER BY runs.thread, runs.run

-- name: unread_of_many
SELECT thread_id, {message_columns} FROM {schema}.messages JOIN {schema}.threads ON threads.number = messages.thread
WHERE thread_id = ANY($1::text[]) AND messages.applied = 0 ORDER BY messages.thread, messages.number

-- name: segments
-- Segments do not overlap: the one that covers $2 is the last that begins at or before it.
SELECT first, last, segments.epoch, commit_id, data
FROM {schema}.threads JOIN {schema}.segments ON segments.thread = threads.number
WHERE threads.thread_id = $1 AND last >= $2::bigint AND first <= $3::bigint AND first >= coalesce((
    SELECT max(low.first) FROM {schema}.segments AS low WHERE low.thread = threads.number AND low.first <= $2
), $2)
ORDER BY first DESC LIMIT $4

-- name: old_segments
SELECT first, last, commit_id
FROM {schema}.segments JOIN {schema}.threads ON threads.number = segments.thread
WHERE thread_id = $1 AND first BETWEEN $2 AND $3 ORDER BY first

-- name: newest
SELECT last, commit_id
FROM {schema}.segments JOIN {schema}.threads ON threads.number = segments.thread
WHERE thread_id = $1 AND first <= $2::bigint ORDER BY first DESC LIMIT 1

-- name: drop_segments
DELETE FROM {schema}.segments
WHERE thread = (SELECT number FROM {schema}.threads WHERE thread_id = $1) AND first BETWEEN $2 AND $3

-- name: add_segment
INSERT INTO {schema}.segments (thread, first, last, epoch, commit_id, data)
SELECT number, $2, $3, $4, $5, $6 FROM {schema}.threads WHERE thread_id = $1
ON CONFLICT DO NOTHING

-- name: renew
INSERT INTO {schema}.owners (owner, counter, host, pid, started, threads) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (owner) DO UPDATE SET counter = excluded.counter, host = excluded.host, pid = excluded.pid,
    started = excluded.started, threads = excluded.threads
WHERE NOT (owners.host = excluded.host AND owners.pid = excluded.pid AND owners.started = excluded.started
    AND excluded.counter < owners.counter)

-- name: owners
SELECT owner, counter, host, pid, started, threads FROM {schema}.owners ORDER BY owner

-- name: forget
DELETE FROM {schema}.owners WHERE owner = $1

-- name: put_graph
INSERT INTO {schema}.graphs (graph_key, name, version, kind, body, signature, paths)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (graph_key) DO NOTHING

-- name: graph
SELECT graph_key, name, version, kind, body, signature, paths FROM {schema}.graphs WHERE graph_key = $1

-- name: graph_keys
SELECT graph_key FROM {schema}.graphs ORDER BY graph_key

-- name: setting
SELECT value FROM {schema}.settings WHERE name = $1

-- name: put_setting
INSERT INTO {schema}.settings (name, value) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: drop_setting
DELETE FROM {schema}.settings WHERE name = $1

-- name: statistics
SELECT
    (SELECT coalesce(json_object_agg(status, count), '{{}}')
        FROM (SELECT status, count(*) FROM {schema}.threads GROUP BY status) AS counted),
    (SELECT count(*) FROM {schema}.segments), (SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM {schema}.segments),
    (SELECT count(*) FROM {schema}.messages),
    (SELECT coalesce(sum(octet_length(payload)), 0)::bigint FROM {schema}.messages),
    (SELECT count(*) FROM {schema}.graphs), (SELECT count(*) FROM {schema}.owners),
    (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
        WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) AND relkind = 'r')

