-- Adds one row of counts.
INSERT INTO metrics_usage (minute, principal, server, method, name, calls, errors, micros)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (minute, principal, server, method, name) DO UPDATE
SET calls  = calls + excluded.calls,
    errors = errors + excluded.errors,
    micros = micros + excluded.micros
