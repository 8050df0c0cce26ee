-- +goose Up
-- What became of sessions. kind is the number of erlmcp.metrics.v1.SessionEvent.Kind.
CREATE TABLE metrics_sessions (
    id         uuid PRIMARY KEY,
    at         timestamptz NOT NULL,
    node       text NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    principal  text COLLATE "C" NOT NULL,
    kind       smallint NOT NULL,
    reason     text NOT NULL
);
CREATE INDEX metrics_sessions_at ON metrics_sessions (at, id);
CREATE INDEX metrics_sessions_principal ON metrics_sessions (principal, at);
CREATE INDEX metrics_sessions_session ON metrics_sessions (session_id);

-- +goose Down
DROP TABLE metrics_sessions;
