-- +goose Up
-- Minutes are Unix seconds; other times are Unix microseconds.
CREATE TABLE metrics_usage (
    minute    INTEGER NOT NULL,
    principal TEXT NOT NULL,
    server    TEXT NOT NULL,
    method    TEXT NOT NULL,
    name      TEXT NOT NULL,
    calls     INTEGER NOT NULL,
    errors    INTEGER NOT NULL,
    micros    INTEGER NOT NULL,
    PRIMARY KEY (minute, principal, server, method, name)
) STRICT, WITHOUT ROWID;

-- Which batches were counted. A node's run sends each sequence at least once; it is unsigned, and kept as the signed
-- number of the same bits.
CREATE TABLE metrics_batches (
    node     TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (node, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX metrics_batches_at ON metrics_batches (at);

CREATE TABLE metrics_audit (
    id        TEXT NOT NULL PRIMARY KEY,
    at        INTEGER NOT NULL,
    node      TEXT NOT NULL,
    principal TEXT NOT NULL,
    method    TEXT NOT NULL,
    object    TEXT NOT NULL,
    outcome   TEXT NOT NULL
) STRICT;
CREATE INDEX metrics_audit_at ON metrics_audit (at, id);

-- roles is a JSON array.
CREATE TABLE metrics_nodes (
    name       TEXT NOT NULL PRIMARY KEY,
    roles      TEXT NOT NULL,
    version    TEXT NOT NULL,
    address    TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;

-- +goose Down
DROP TABLE metrics_nodes;
DROP TABLE metrics_audit;
DROP TABLE metrics_batches;
DROP TABLE metrics_usage;
