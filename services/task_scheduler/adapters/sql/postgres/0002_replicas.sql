-- readable by schema: 1

-- The replicas that live, whether they own a partition or not: each takes its share of them.
CREATE TABLE podium_replicas (
    replica text PRIMARY KEY,
    address text NOT NULL,
    expires_at timestamptz NOT NULL
);
