-- Layout 2: timers, retention, named checkpoints, names of messages.
-- The payloads of messages, runs and graphs are sealed with a checksum from here on (`sqlite_migrations.py`).

ALTER TABLE threads ADD COLUMN wake_at REAL NOT NULL DEFAULT 0;
ALTER TABLE threads ADD COLUMN retention TEXT;
ALTER TABLE threads ADD COLUMN names TEXT NOT NULL DEFAULT '{}';
ALTER TABLE threads ADD COLUMN floor INTEGER NOT NULL DEFAULT 0;
ALTER TABLE threads ADD COLUMN tidied INTEGER NOT NULL DEFAULT 0;
CREATE INDEX threads_by_wake ON threads (wake_at) WHERE wake_at > 0;

ALTER TABLE messages ADD COLUMN name TEXT NOT NULL DEFAULT '';

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
