-- +goose Up
-- Text is compared byte by byte, so that order is the same in every database, whatever its locale.
CREATE TABLE metrics_usage (
    minute    timestamptz NOT NULL,
    principal text COLLATE "C" NOT NULL,
    server    text COLLATE "C" NOT NULL,
    method    text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    calls     bigint NOT NULL,
    errors    bigint NOT NULL,
    micros    bigint NOT NULL,
    PRIMARY KEY (minute, principal, server, method, name)
);

-- Which batches were counted. A node's run sends each sequence at least once; it is unsigned, and kept as the signed
-- number of the same bits.
CREATE TABLE metrics_batches (
    node     text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (node, sequence)
);
CREATE INDEX metrics_batches_at ON metrics_batches (at);

CREATE TABLE metrics_audit (
    id        uuid PRIMARY KEY,
    at        timestamptz NOT NULL,
    node      text NOT NULL,
    principal text NOT NULL,
    method    text NOT NULL,
    object    text NOT NULL,
    outcome   text NOT NULL
);
CREATE INDEX metrics_audit_at ON metrics_audit (at, id);

CREATE TABLE metrics_nodes (
    name       text COLLATE "C" PRIMARY KEY,
    roles      text[] NOT NULL,
    version    text NOT NULL,
    address    text NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL
);

-- +goose Down
DROP TABLE metrics_nodes, metrics_audit, metrics_batches, metrics_usage;
