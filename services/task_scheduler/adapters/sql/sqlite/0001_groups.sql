-- The journal of one partition: groups of events as they were committed.

-- Each group carries the hash of the one before, so a changed, lost or swapped group is found.
CREATE TABLE IF NOT EXISTS groups (
    first_seq INTEGER PRIMARY KEY,
    last_seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    frames BLOB NOT NULL
) STRICT;

-- What the file is: its schema version.
CREATE TABLE IF NOT EXISTS about (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
