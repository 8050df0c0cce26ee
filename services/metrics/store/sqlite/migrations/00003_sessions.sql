-- +goose Up
-- What became of sessions. kind is the number of erlmcp.metrics.v1.SessionEvent.Kind; at is in Unix microseconds.
CREATE TABLE metrics_sessions (
    id         TEXT NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    node       TEXT NOT NULL,
    session_id TEXT NOT NULL,
    principal  TEXT NOT NULL,
    kind       INTEGER NOT NULL,
    reason     TEXT NOT NULL
) STRICT;
CREATE INDEX metrics_sessions_at ON metrics_sessions (at, id);
CREATE INDEX metrics_sessions_principal ON metrics_sessions (principal, at);
CREATE INDEX metrics_sessions_session ON metrics_sessions (session_id);

-- +goose Down
DROP TABLE metrics_sessions;
