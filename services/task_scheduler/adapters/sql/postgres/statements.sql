-- name: settings
-- What decides whether a commit survives a power cut.
SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit, current_setting('full_page_writes') AS full_page_writes;

-- name: has_tables
-- Whether there is a schema at all.
SELECT to_regclass('podium_about') IS NOT NULL;

-- name: schema
-- The version of the tables, and of the oldest program that can use them.
SELECT coalesce(max(value) FILTER (WHERE name = 'schema'), '0')::integer AS schema, coalesce(max(value) FILTER (WHERE name = 'readable_by'), '0')::integer AS readable_by FROM podium_about;

-- name: set_schema
-- Notes both.
INSERT INTO podium_about VALUES ('schema', $1::text), ('readable_by', $2::text)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: one_migrates
-- Lets one replica at a time change the schema, until its transaction ends.
SELECT pg_advisory_xact_lock(7701);

-- name: about
-- A fact about the database.
SELECT value FROM podium_about WHERE name = $1;

-- name: set_about
-- Notes one.
INSERT INTO podium_about VALUES ($1, $2) ON CONFLICT (name) DO NOTHING;

-- name: add_partition
-- A partition that is new.
INSERT INTO podium_partitions (partition) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: add_lease
-- Its lease, which nobody holds.
INSERT INTO podium_leases (partition) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: take_lease
-- Takes a lease that nobody holds any more, or that was held in this very place: where this process
-- listens now, no other one lives that could renew it.
UPDATE podium_leases SET owner = $2, address = $3, expires_at = clock_timestamp() + make_interval(secs => $4)
WHERE partition = $1 AND (
    expires_at < clock_timestamp()
    OR (address = $3 AND split_part(owner, '/', 1) = split_part($2, '/', 1))
)
RETURNING partition;

-- name: renew_lease
-- Says that the owner lives.
UPDATE podium_leases SET expires_at = clock_timestamp() + make_interval(secs => $3)
WHERE partition = $1 AND owner = $2
RETURNING partition;

-- name: release_lease
-- Gives the lease back, so that another takes over at once.
UPDATE podium_leases SET expires_at = '-infinity', owner = '', address = ''
WHERE partition = $1 AND owner = $2;

-- name: tell_released
-- Wakes those who wait for it.
SELECT pg_notify('podium_released', $1::text);

-- name: tell_owned
-- Tells who is there that it has an owner.
SELECT pg_notify('podium_owned', $1::text);

-- name: owner
-- Who has the lease, and for how long.
SELECT owner, address, greatest(0, extract(epoch FROM expires_at - clock_timestamp()))::float8 AS left_s
FROM podium_leases WHERE partition = $1 AND expires_at > clock_timestamp();

-- name: owners
-- Who owns which partitions.
SELECT partition, owner, address FROM podium_leases WHERE expires_at > clock_timestamp();

-- name: replicas
-- Which replicas live.
SELECT replica, address FROM podium_replicas WHERE expires_at > clock_timestamp();

-- name: add_replica
-- Says that a replica lives; one that listened at its address before does not any more.
WITH gone AS (
    DELETE FROM podium_replicas
    WHERE replica <> $1 AND (address = $2 OR expires_at < clock_timestamp() - interval '1 hour')
)
INSERT INTO podium_replicas (replica, address, expires_at)
VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (replica) DO UPDATE SET expires_at = excluded.expires_at;

-- name: drop_replica
-- Says that it leaves.
DELETE FROM podium_replicas WHERE replica = $1;

-- name: raise_epoch
-- Shuts out whoever wrote before; waits for a commit of theirs that is under way.
UPDATE podium_partitions SET epoch = epoch + 1 WHERE partition = $1 RETURNING epoch;

-- name: raise_own_epoch
-- The same by the owner itself, to shut out its own lost connection.
UPDATE podium_partitions SET epoch = epoch + 1 WHERE partition = $1 AND epoch = $2 RETURNING epoch;

-- name: append
-- Appends a group, if the epoch is still that of the owner.
WITH owned AS (SELECT FROM podium_partitions WHERE partition = $1 AND epoch = $2 FOR SHARE)
INSERT INTO podium_groups (partition, first_seq, last_seq, wall_ms, hash, frames)
SELECT $1, $3, $4, $5, $6, $7 FROM owned
RETURNING first_seq;

-- name: base
-- Where the log begins.
SELECT compacted_seq, compacted_hash FROM podium_partitions WHERE partition = $1;

-- name: end
-- Where it ends.
SELECT last_seq, hash FROM podium_groups WHERE partition = $1 ORDER BY first_seq DESC LIMIT 1;

-- name: hash_of
-- The hash of the group that begins with an event.
SELECT hash FROM podium_groups WHERE partition = $1 AND first_seq = $2;

-- name: hash_at
-- The hash of the group that ends with an event.
SELECT hash FROM podium_groups
WHERE partition = $1 AND last_seq = $2
    AND first_seq = (SELECT max(first_seq) FROM podium_groups WHERE partition = $1 AND first_seq <= $2);

-- name: groups_after
-- The next groups behind an event.
SELECT first_seq, last_seq, frames, wall_ms, hash FROM podium_groups
WHERE partition = $1 AND first_seq > $2 ORDER BY first_seq LIMIT $3;

-- name: groups_behind
-- Groups from the one on that holds an event, about so many bytes.
SELECT first_seq, last_seq, frames, wall_ms FROM (
    SELECT *, sum(octet_length(frames)) OVER (ORDER BY first_seq) - octet_length(frames) AS before_bytes
    FROM (
        SELECT first_seq, last_seq, frames, wall_ms FROM podium_groups
        WHERE partition = $1 AND last_seq > $2 AND first_seq >= coalesce(
            (SELECT max(first_seq) FROM podium_groups WHERE partition = $1 AND first_seq <= $2 + 1), 0)
        ORDER BY first_seq LIMIT 1000
    ) AS near
) AS summed
WHERE before_bytes < $3 ORDER BY first_seq;

-- name: groups_with
-- Groups of a range of events, about so many bytes, their frames where they contain some bytes.
SELECT first_seq, last_seq, wall_ms, octet_length(frames),
    CASE WHEN position($4::bytea IN frames) > 0 THEN frames END
FROM (
    SELECT *, sum(octet_length(frames)) OVER (ORDER BY first_seq) - octet_length(frames) AS before_bytes
    FROM (
        SELECT first_seq, last_seq, frames, wall_ms FROM podium_groups
        WHERE partition = $1 AND last_seq >= $2 AND first_seq <= $3 AND first_seq >= coalesce(
            (SELECT max(first_seq) FROM podium_groups WHERE partition = $1 AND first_seq <= $2), 0)
        ORDER BY first_seq LIMIT 1000
    ) AS near
) AS summed
WHERE before_bytes < $5 ORDER BY first_seq;

-- name: size
-- Bytes of a log.
SELECT coalesce(sum(octet_length(frames)), 0)::bigint FROM podium_groups WHERE partition = $1;

-- name: oldest
-- The oldest groups that may be dropped.
SELECT last_seq, wall_ms, hash, octet_length(frames) AS size_bytes FROM podium_groups
WHERE partition = $1 AND last_seq <= $2 ORDER BY first_seq LIMIT $3;

-- name: drop_through
-- Drops groups from the beginning and notes where the log begins now, if the epoch is the owner's.
WITH owned AS (
    UPDATE podium_partitions SET compacted_seq = $3, compacted_hash = $4
    WHERE partition = $1 AND epoch = $2
    RETURNING partition
)
DELETE FROM podium_groups USING owned
WHERE podium_groups.partition = owned.partition AND last_seq <= $3;

-- name: snapshots
-- Whole snapshots, newest first.
SELECT seq, hash, epoch, parts, digest FROM podium_snapshots WHERE partition = $1 ORDER BY seq DESC;

-- name: snapshot_parts
-- Some parts of a snapshot.
SELECT packed FROM podium_snapshot_parts
WHERE partition = $1 AND seq = $2 AND epoch = $3 AND part >= $4 ORDER BY part LIMIT $5;

-- name: finish_snapshot
-- Makes a snapshot whole, if the epoch is still that of the owner and all parts are there; it takes
-- the place of one that an owner before wrote at the same event, which may have been damaged since.
WITH owned AS (SELECT FROM podium_partitions WHERE partition = $1 AND epoch = $2 FOR SHARE)
INSERT INTO podium_snapshots (partition, seq, hash, epoch, parts, digest)
SELECT $1, $3, $4, $2, $5::integer, $6 FROM owned
WHERE $5::integer = (
    SELECT count(*) FROM podium_snapshot_parts WHERE partition = $1 AND seq = $3 AND epoch = $2)
ON CONFLICT (partition, seq) DO UPDATE
SET hash = excluded.hash, epoch = excluded.epoch, parts = excluded.parts, digest = excluded.digest
RETURNING seq;

-- name: drop_snapshots
-- Drops all but the newest, if the epoch is still that of the owner.
WITH owned AS (SELECT FROM podium_partitions WHERE partition = $1 AND epoch = $2 FOR SHARE)
DELETE FROM podium_snapshots
WHERE partition = $1 AND EXISTS (SELECT FROM owned) AND seq NOT IN (
    SELECT seq FROM podium_snapshots WHERE partition = $1 ORDER BY seq DESC LIMIT $3);

-- name: drop_parts
-- Drops parts of snapshots that are no more, or never were finished, if the epoch is still that of
-- the owner: another one may be writing some.
WITH owned AS (SELECT FROM podium_partitions WHERE partition = $1 AND epoch = $2 FOR SHARE)
DELETE FROM podium_snapshot_parts AS part
WHERE part.partition = $1 AND EXISTS (SELECT FROM owned) AND NOT EXISTS (
    SELECT FROM podium_snapshots AS whole
    WHERE whole.partition = part.partition AND whole.seq = part.seq AND whole.epoch = part.epoch);

-- name: partitions
-- All partitions.
SELECT partition FROM podium_partitions ORDER BY partition;

-- name: hold_lease
-- Lets nobody take a partition until the transaction ends, and tells who has it.
SELECT owner, expires_at > clock_timestamp() AS lives FROM podium_leases WHERE partition = $1 FOR UPDATE;

-- name: cut_before
-- Drops all groups that begin with an event or before it, whatever they say that they end with.
DELETE FROM podium_groups WHERE partition = $1 AND first_seq <= $2;

-- name: cut_behind
-- Drops all groups behind an event.
DELETE FROM podium_groups WHERE partition = $1 AND first_seq > $2;

-- name: begin_at
-- Notes where the log begins now.
UPDATE podium_partitions SET compacted_seq = $2, compacted_hash = $3 WHERE partition = $1;

-- name: cut_snapshots
-- Drops the snapshots from an event on but for some; their parts go with the next snapshot.
DELETE FROM podium_snapshots WHERE partition = $1 AND seq >= $2 AND seq <> ALL ($3::bigint[]);
