-- name: insert_group
-- Appends a group.
INSERT INTO groups (first_seq, last_seq, wall_ms, hash, frames) VALUES (?, ?, ?, ?, ?);

-- name: groups_after
-- The next groups behind an event, with their hashes.
SELECT first_seq, last_seq, frames, wall_ms, hash FROM groups
WHERE first_seq > ? ORDER BY first_seq LIMIT ?;

-- name: groups_behind
-- Groups from the one on that holds an event.
SELECT first_seq, last_seq, frames, wall_ms FROM groups
WHERE first_seq >= coalesce((SELECT max(first_seq) FROM groups WHERE first_seq <= ?), 0)
ORDER BY first_seq;

-- name: groups_with
-- Groups of a range of events, their frames where they contain some bytes.
SELECT first_seq, last_seq, wall_ms, length(frames), CASE WHEN instr(frames, ?) > 0 THEN frames END
FROM groups
WHERE first_seq >= coalesce((SELECT max(first_seq) FROM groups WHERE first_seq <= ?), 0)
    AND first_seq <= ? AND last_seq >= ?
ORDER BY first_seq;

-- name: base
-- Where the log begins.
SELECT last_seq, hash FROM base;

-- name: end
-- Where the log ends; nothing when it holds no group.
SELECT last_seq, hash FROM groups ORDER BY first_seq DESC LIMIT 1;

-- name: hash_at
-- The hash of the group that ends with an event.
SELECT hash FROM groups
WHERE first_seq = (SELECT max(first_seq) FROM groups WHERE first_seq <= ?1) AND last_seq = ?1;

-- name: oldest
-- The oldest groups that may be dropped, by number and age.
SELECT first_seq, last_seq, wall_ms, hash FROM groups WHERE last_seq <= ? ORDER BY first_seq LIMIT ?;

-- name: drop_through
-- Drops groups from the beginning.
DELETE FROM groups WHERE last_seq <= ?;

-- name: cut_before
-- Drops all groups that begin with an event or before it, whatever they say that they end with.
DELETE FROM groups WHERE first_seq <= ?;

-- name: cut_behind
-- Drops all groups behind an event.
DELETE FROM groups WHERE first_seq > ?;

-- name: begin_at
-- Notes where the log begins now.
UPDATE base SET last_seq = ?, hash = ?;

-- name: schema
-- The version of the tables.
SELECT value FROM about WHERE name = 'schema';

-- name: set_schema
-- Notes the version of the tables.
INSERT INTO about VALUES ('schema', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;
