-- +goose Up
-- Usage by the minute, hour and day, partitioned by time: days of minutes, months of hours, years of days, in UTC, made
-- as they are needed and dropped whole. bucket is how long calls took, -1 where not known.
CREATE TABLE metrics_usage_minute (
    start     timestamptz NOT NULL,
    principal text COLLATE "C" NOT NULL,
    server    text COLLATE "C" NOT NULL,
    method    text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    bucket    smallint NOT NULL,
    calls     bigint NOT NULL,
    errors    bigint NOT NULL,
    micros    bigint NOT NULL,
    PRIMARY KEY (start, principal, server, method, name, bucket)
) PARTITION BY RANGE (start);
CREATE TABLE metrics_usage_hour (
    start     timestamptz NOT NULL,
    principal text COLLATE "C" NOT NULL,
    server    text COLLATE "C" NOT NULL,
    method    text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    bucket    smallint NOT NULL,
    calls     bigint NOT NULL,
    errors    bigint NOT NULL,
    micros    bigint NOT NULL,
    PRIMARY KEY (start, principal, server, method, name, bucket)
) PARTITION BY RANGE (start);
CREATE TABLE metrics_usage_day (
    start     timestamptz NOT NULL,
    principal text COLLATE "C" NOT NULL,
    server    text COLLATE "C" NOT NULL,
    method    text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    bucket    smallint NOT NULL,
    calls     bigint NOT NULL,
    errors    bigint NOT NULL,
    micros    bigint NOT NULL,
    PRIMARY KEY (start, principal, server, method, name, bucket)
) PARTITION BY RANGE (start);

-- metrics_partition makes the partition of a table that holds t, unless it is there. unit is day, month or year.
-- +goose StatementBegin
CREATE FUNCTION metrics_partition(step text, unit text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first timestamp := date_trunc(unit, t AT TIME ZONE 'UTC');
    part text := 'metrics_usage_' || step || '_' || to_char(first, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('metrics_partition'));
    IF to_regclass(part) IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', part, 'metrics_usage_' || step,
            first AT TIME ZONE 'UTC', (first + ('1 ' || unit)::interval) AT TIME ZONE 'UTC');
    END IF;
END $$;
-- +goose StatementEnd

SELECT metrics_partition('minute', 'day', t), metrics_partition('hour', 'month', t), metrics_partition('day', 'year', t)
FROM (SELECT DISTINCT date_trunc('day', minute AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS t FROM metrics_usage) AS days;
INSERT INTO metrics_usage_minute SELECT minute, principal, server, method, name, -1, calls, errors, micros FROM metrics_usage;
INSERT INTO metrics_usage_hour
SELECT date_trunc('hour', minute AT TIME ZONE 'UTC') AT TIME ZONE 'UTC', principal, server, method, name, -1, sum(calls), sum(errors), sum(micros)
FROM metrics_usage GROUP BY 1, 2, 3, 4, 5;
INSERT INTO metrics_usage_day
SELECT date_trunc('day', minute AT TIME ZONE 'UTC') AT TIME ZONE 'UTC', principal, server, method, name, -1, sum(calls), sum(errors), sum(micros)
FROM metrics_usage GROUP BY 1, 2, 3, 4, 5;

-- +goose Down
DROP FUNCTION metrics_partition;
DROP TABLE metrics_usage_day, metrics_usage_hour, metrics_usage_minute;
