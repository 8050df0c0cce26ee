-- Migrations expand first and contract a release later, so that one can go back a release.

-- +goose Up
-- One row. Transactions that write take the write lock at their start, so versions are committed in their order.
-- Version 0 is nobody's: it stands for knowing nothing.
CREATE TABLE registry_catalog (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    -- What was removed in versions up to this one is not known any more.
    floor   INTEGER NOT NULL
) STRICT;
INSERT INTO registry_catalog (id, version, floor) VALUES (1, 1, 0);

-- Messages are protobuf's: spec is a Server, offer an Offer. checked_at is in Unix microseconds, 0 for never.
CREATE TABLE registry_servers (
    name       TEXT NOT NULL PRIMARY KEY,
    spec       BLOB NOT NULL,
    declared   INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    message    TEXT NOT NULL,
    offer      BLOB,
    checked_at INTEGER NOT NULL,
    version    INTEGER NOT NULL
) STRICT;
CREATE INDEX registry_servers_version ON registry_servers (version);

-- Names of tools (kind 1) and prompts (kind 2) in views of several servers, and who has them.
CREATE TABLE registry_names (
    kind   INTEGER NOT NULL,
    name   TEXT NOT NULL,
    server TEXT NOT NULL REFERENCES registry_servers (name) ON DELETE CASCADE,
    PRIMARY KEY (kind, name)
) STRICT;
CREATE INDEX registry_names_server ON registry_names (server);

CREATE TABLE registry_views (
    name    TEXT NOT NULL PRIMARY KEY,
    view    BLOB NOT NULL,
    version INTEGER NOT NULL
) STRICT;

-- record is a KeyRecord; version tells the order in which keys were made.
CREATE TABLE registry_keys (
    id      TEXT NOT NULL PRIMARY KEY,
    record  BLOB NOT NULL,
    version INTEGER NOT NULL
) STRICT;

-- What was removed and is not there again, for those who follow. Kinds: 1 server, 2 view, 3 key.
CREATE TABLE registry_removed (
    kind    INTEGER NOT NULL,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;
CREATE INDEX registry_removed_version ON registry_removed (version);

-- +goose Down
DROP TABLE registry_removed;
DROP TABLE registry_keys;
DROP TABLE registry_views;
DROP TABLE registry_names;
DROP TABLE registry_servers;
DROP TABLE registry_catalog;
