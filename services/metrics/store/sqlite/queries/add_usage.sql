-- Adds one row of counts to one step.
INSERT INTO metrics_usage_step (start, principal, server, method, name, bucket, calls, errors, micros)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (start, principal, server, method, name, bucket) DO UPDATE
SET calls  = calls + excluded.calls,
    errors = errors + excluded.errors,
    micros = micros + excluded.micros
