-- The index: one SQLite file. docs/formats/index.md describes every column.
-- A change that an older program could not read raises SCHEMA in store.py.

CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

-- One row for each model and commit, whatever became of it.
CREATE TABLE models (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  ref TEXT NOT NULL,
  repo TEXT NOT NULL,
  revision TEXT,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  parents TEXT NOT NULL,
  facts TEXT NOT NULL,
  signature TEXT REFERENCES blobs (digest),
  study TEXT REFERENCES blobs (digest),
  digest TEXT NOT NULL
);
CREATE INDEX models_by_repo ON models (repo);
CREATE INDEX models_by_state ON models (state);
CREATE INDEX models_by_signature ON models (signature) WHERE signature IS NOT NULL;
CREATE INDEX models_by_study ON models (study) WHERE study IS NOT NULL;

CREATE TABLE files (
  model INTEGER NOT NULL REFERENCES models (number) ON DELETE CASCADE,
  path TEXT NOT NULL,
  size INTEGER NOT NULL,
  sha256 TEXT,
  PRIMARY KEY (model, path)
) WITHOUT ROWID;
CREATE INDEX files_by_hash ON files (sha256) WHERE sha256 IS NOT NULL;

-- Small and scanned often, so apart from the rest: what a search compares.
CREATE TABLE vectors (
  model INTEGER PRIMARY KEY REFERENCES models (number) ON DELETE CASCADE,
  data BLOB NOT NULL
);

-- Signatures and second readings by the SHA-256 of their bytes: equal files share one.
CREATE TABLE blobs (
  number INTEGER PRIMARY KEY,
  digest TEXT NOT NULL UNIQUE,
  data BLOB NOT NULL
);
