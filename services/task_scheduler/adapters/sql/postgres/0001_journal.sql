-- readable by schema: 1

-- The journals of all partitions, each written by one owner at a time.

-- What the database is: the version of its tables, and the oldest program that can use them.
CREATE TABLE podium_about (
    name text PRIMARY KEY,
    value text NOT NULL
);

-- The fence: an owner writes with the epoch of its takeover, and with no other.
CREATE TABLE podium_partitions (
    partition integer PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 0,
    compacted_seq bigint NOT NULL DEFAULT 0,
    compacted_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
);

-- Who owns a partition, and until when unless it says so again. Apart from the fence, so that a
-- renewal and a commit never wait for each other.
CREATE TABLE podium_leases (
    partition integer PRIMARY KEY REFERENCES podium_partitions,
    owner text NOT NULL DEFAULT '',
    address text NOT NULL DEFAULT '',
    expires_at timestamptz NOT NULL DEFAULT '-infinity'
);

-- Groups of events as they were committed, each with the hash that ties it to the one before.
CREATE TABLE podium_groups (
    partition integer NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    wall_ms bigint NOT NULL,
    hash bytea NOT NULL,
    frames bytea NOT NULL,
    PRIMARY KEY (partition, first_seq)
);
-- Compressing them would cost the commit more than the space is worth.
ALTER TABLE podium_groups ALTER COLUMN frames SET STORAGE EXTERNAL;

-- Snapshots that are whole.
CREATE TABLE podium_snapshots (
    partition integer NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    epoch bigint NOT NULL,
    parts integer NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (partition, seq)
);

-- Their parts; those of a snapshot that was never finished belong to no whole one.
CREATE TABLE podium_snapshot_parts (
    partition integer NOT NULL,
    seq bigint NOT NULL,
    epoch bigint NOT NULL,
    part integer NOT NULL,
    packed bytea NOT NULL,
    PRIMARY KEY (partition, seq, epoch, part)
);
