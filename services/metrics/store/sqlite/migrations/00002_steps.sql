-- +goose Up
-- Usage by the minute, hour and day. start is in Unix seconds; bucket is how long calls took, -1 where not known.
CREATE TABLE metrics_usage_minute (
    start     INTEGER NOT NULL,
    principal TEXT NOT NULL,
    server    TEXT NOT NULL,
    method    TEXT NOT NULL,
    name      TEXT NOT NULL,
    bucket    INTEGER NOT NULL,
    calls     INTEGER NOT NULL,
    errors    INTEGER NOT NULL,
    micros    INTEGER NOT NULL,
    PRIMARY KEY (start, principal, server, method, name, bucket)
) STRICT, WITHOUT ROWID;
CREATE TABLE metrics_usage_hour (
    start     INTEGER NOT NULL,
    principal TEXT NOT NULL,
    server    TEXT NOT NULL,
    method    TEXT NOT NULL,
    name      TEXT NOT NULL,
    bucket    INTEGER NOT NULL,
    calls     INTEGER NOT NULL,
    errors    INTEGER NOT NULL,
    micros    INTEGER NOT NULL,
    PRIMARY KEY (start, principal, server, method, name, bucket)
) STRICT, WITHOUT ROWID;
CREATE TABLE metrics_usage_day (
    start     INTEGER NOT NULL,
    principal TEXT NOT NULL,
    server    TEXT NOT NULL,
    method    TEXT NOT NULL,
    name      TEXT NOT NULL,
    bucket    INTEGER NOT NULL,
    calls     INTEGER NOT NULL,
    errors    INTEGER NOT NULL,
    micros    INTEGER NOT NULL,
    PRIMARY KEY (start, principal, server, method, name, bucket)
) STRICT, WITHOUT ROWID;
INSERT INTO metrics_usage_minute SELECT minute, principal, server, method, name, -1, calls, errors, micros FROM metrics_usage;
INSERT INTO metrics_usage_hour
SELECT minute / 3600 * 3600, principal, server, method, name, -1, sum(calls), sum(errors), sum(micros)
FROM metrics_usage GROUP BY 1, 2, 3, 4, 5;
INSERT INTO metrics_usage_day
SELECT minute / 86400 * 86400, principal, server, method, name, -1, sum(calls), sum(errors), sum(micros)
FROM metrics_usage GROUP BY 1, 2, 3, 4, 5;

-- +goose Down
DROP TABLE metrics_usage_day;
DROP TABLE metrics_usage_hour;
DROP TABLE metrics_usage_minute;
