-- Sums the steps that start within [$1, $2), keeping apart what $3 to $8 say; $9 to $12 filter where not empty. $13 is
-- the order: 1 errors, 2 mean duration, else calls. The buckets, and how many calls each has, are two arrays.
WITH fine AS (
    SELECT CASE WHEN $3::bool THEN start END AS start,
           CASE WHEN $4::bool THEN principal ELSE '' END AS principal,
           CASE WHEN $5::bool THEN server ELSE '' END AS server,
           CASE WHEN $6::bool THEN method ELSE '' END AS method,
           CASE WHEN $7::bool THEN name ELSE '' END AS name,
           CASE WHEN $4::bool OR $8::bool THEN coalesce(tenant, '') ELSE '' END AS tenant,
           bucket, sum(calls)::bigint AS calls, sum(errors)::bigint AS errors, sum(micros)::bigint AS micros
    FROM metrics_usage_step LEFT JOIN metrics_principals USING (principal)
    WHERE start >= $1 AND start < $2
      AND ($9::text = '' OR principal = $9)
      AND ($10::text = '' OR server = $10)
      AND ($11::text = '' OR name = $11)
      AND ($12::text = '' OR tenant = $12)
    GROUP BY 1, 2, 3, 4, 5, 6, 7
)
SELECT start, principal, server, method, name, tenant,
       sum(calls)::bigint, sum(errors)::bigint, sum(micros)::bigint,
       array_agg(bucket ORDER BY bucket), array_agg(calls ORDER BY bucket)
FROM fine
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY CASE $13::int WHEN 1 THEN sum(errors) WHEN 2 THEN sum(micros) / greatest(sum(calls), 1) ELSE sum(calls) END DESC,
         1, 2, 3, 4, 5, 6
LIMIT $14
