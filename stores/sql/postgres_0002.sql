-- Layout 2: how the service runs a thread, in a process of its own or in one with others.

ALTER TABLE {schema}.threads ADD COLUMN isolation TEXT NOT NULL DEFAULT 'thread';
