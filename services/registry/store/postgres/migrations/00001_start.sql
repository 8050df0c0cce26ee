-- Migrations expand first and contract a release later, so that replicas of neighbouring releases can share the tables.
-- Names are compared byte by byte, so that order is the same in every database, whatever its locale.

-- +goose Up
-- One row. Its lock is what makes changes happen one after the other, and so versions be committed in their order.
-- Version 0 is nobody's: it stands for knowing nothing.
CREATE TABLE registry_catalog (
    id      smallint PRIMARY KEY CHECK (id = 1),
    version bigint NOT NULL,
    -- What was removed in versions up to this one is not known any more.
    floor   bigint NOT NULL
);
INSERT INTO registry_catalog (id, version, floor) VALUES (1, 1, 0);

-- Messages are protobuf's: spec is a Server, offer an Offer. checked_at is in Unix microseconds, 0 for never.
CREATE TABLE registry_servers (
    name       text COLLATE "C" PRIMARY KEY,
    spec       bytea NOT NULL,
    declared   boolean NOT NULL,
    state      integer NOT NULL,
    message    text NOT NULL,
    offer      bytea,
    checked_at bigint NOT NULL,
    version    bigint NOT NULL
);
CREATE INDEX registry_servers_version ON registry_servers (version);

-- Names of tools (kind 1) and prompts (kind 2) in views of several servers, and who has them.
CREATE TABLE registry_names (
    kind   smallint NOT NULL,
    name   text COLLATE "C" NOT NULL,
    server text COLLATE "C" NOT NULL REFERENCES registry_servers (name) ON DELETE CASCADE,
    PRIMARY KEY (kind, name)
);
CREATE INDEX registry_names_server ON registry_names (server);

CREATE TABLE registry_views (
    name    text COLLATE "C" PRIMARY KEY,
    view    bytea NOT NULL,
    version bigint NOT NULL
);

-- record is a KeyRecord; version tells the order in which keys were made.
CREATE TABLE registry_keys (
    id      text COLLATE "C" PRIMARY KEY,
    record  bytea NOT NULL,
    version bigint NOT NULL
);

-- What was removed and is not there again, for those who follow. Kinds: 1 server, 2 view, 3 key.
CREATE TABLE registry_removed (
    kind    smallint NOT NULL,
    name    text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX registry_removed_version ON registry_removed (version);

-- One row: which process discovers and probes.
CREATE TABLE registry_lease (
    id         smallint PRIMARY KEY CHECK (id = 1),
    holder     text NOT NULL,
    expires_at timestamptz NOT NULL
);

-- +goose Down
DROP TABLE registry_lease, registry_removed, registry_keys, registry_views, registry_names, registry_servers, registry_catalog;
