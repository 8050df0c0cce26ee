-- Adds arrays of counts. Rows about the same thing are summed first, since an upsert may touch a row once only; the
-- order keeps two batches about the same things from waiting for each other.
INSERT INTO metrics_usage AS u (minute, principal, server, method, name, calls, errors, micros)
SELECT minute, principal, server, method, name, sum(calls), sum(errors), sum(micros)
FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[])
    AS r (minute, principal, server, method, name, calls, errors, micros)
GROUP BY minute, principal, server, method, name
ORDER BY minute, principal, server, method, name
ON CONFLICT (minute, principal, server, method, name) DO UPDATE
SET calls  = u.calls + excluded.calls,
    errors = u.errors + excluded.errors,
    micros = u.micros + excluded.micros
