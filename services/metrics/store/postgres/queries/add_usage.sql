-- Adds arrays of counts to one step. Rows about the same thing are summed first, since an upsert may touch a row once
-- only; the order keeps two batches about the same things from waiting for each other.
INSERT INTO metrics_usage_step AS u (start, principal, server, method, name, bucket, calls, errors, micros)
SELECT start, principal, server, method, name, bucket, sum(calls), sum(errors), sum(micros)
FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::bigint[], $8::bigint[], $9::bigint[])
    AS r (start, principal, server, method, name, bucket, calls, errors, micros)
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY 1, 2, 3, 4, 5, 6
ON CONFLICT (start, principal, server, method, name, bucket) DO UPDATE
SET calls  = u.calls + excluded.calls,
    errors = u.errors + excluded.errors,
    micros = u.micros + excluded.micros
