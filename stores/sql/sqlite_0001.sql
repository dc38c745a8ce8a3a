-- The layout of a SQLite store, schema 1. Times are Unix seconds; waits, tags, metadata are JSON.

-- number: order of creation; never used twice (AUTOINCREMENT), since cursors and other tables refer to it.
CREATE TABLE threads (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    thread_id TEXT NOT NULL UNIQUE,
    epoch INTEGER NOT NULL,
    token TEXT NOT NULL,
    seq INTEGER NOT NULL,
    head INTEGER NOT NULL,
    inbox INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    run INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    owner TEXT NOT NULL,
    crashes INTEGER NOT NULL,
    waits TEXT NOT NULL,
    updated_at REAL NOT NULL,
    graph TEXT NOT NULL,
    version TEXT NOT NULL,
    graph_key TEXT NOT NULL,
    driver TEXT NOT NULL,
    origin_thread TEXT,
    origin_seq INTEGER,
    metadata TEXT NOT NULL,
    tags TEXT NOT NULL,
    created_at REAL NOT NULL
);
CREATE INDEX threads_by_status ON threads (status, number);
CREATE INDEX threads_by_origin ON threads (origin_thread) WHERE origin_thread IS NOT NULL;

CREATE TABLE runs (
    thread INTEGER NOT NULL,
    run INTEGER NOT NULL,
    status TEXT NOT NULL,
    "end" INTEGER NOT NULL,
    reason TEXT NOT NULL,
    error BLOB NOT NULL,
    metadata TEXT NOT NULL,
    created_at REAL NOT NULL,
    ended_at REAL NOT NULL
);
CREATE UNIQUE INDEX runs_by_number ON runs (thread, run);

CREATE TABLE messages (
    thread INTEGER NOT NULL,
    number INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    run INTEGER NOT NULL,
    created_at REAL NOT NULL,
    applied INTEGER NOT NULL
);
CREATE UNIQUE INDEX messages_by_number ON messages (thread, number);
CREATE UNIQUE INDEX messages_by_id ON messages (thread, message_id);
CREATE INDEX messages_unread ON messages (thread, number) WHERE applied = 0;

-- In order of arrival, so that pages fill up whatever thread writes; found through an index of two integers.
CREATE TABLE segments (
    thread INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    commit_id TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX segments_by_first ON segments (thread, first);

CREATE TABLE owners (
    owner TEXT PRIMARY KEY,
    counter INTEGER NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started REAL NOT NULL,
    threads TEXT NOT NULL
);

CREATE TABLE graphs (
    graph_key TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    signature BLOB NOT NULL,
    paths TEXT NOT NULL
);
