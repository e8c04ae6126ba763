-- Spans are worth a killed process, not a sync: a power cut may cost some of them.
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;

-- A request as it came, and what it is about. The keys stand before the body, so that looking
-- through them reads no body.
CREATE TABLE IF NOT EXISTS request (
  id INTEGER PRIMARY KEY,
  spans_len INTEGER NOT NULL,
  keys BLOB NOT NULL,
  body BLOB NOT NULL
);
