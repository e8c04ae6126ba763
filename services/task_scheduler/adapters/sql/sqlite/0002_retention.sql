-- When a group was committed, so that old ones can be dropped by age.
ALTER TABLE groups ADD COLUMN wall_ms INTEGER NOT NULL DEFAULT 0;

-- Where the log begins: the last event that was dropped, and the hash of its group.
CREATE TABLE base (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    last_seq INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
INSERT INTO base VALUES (1, 0, zeroblob(32));
