-- Sums the steps that start within [?1, ?2), keeping apart what ?3 to ?8 say; ?9 to ?12 filter where not empty. ?13 is
-- the order: 1 errors, 2 mean duration, else calls. The buckets, and how many calls each has, are two JSON arrays.
WITH fine AS (
    SELECT CASE WHEN ?3 THEN start END AS start,
           CASE WHEN ?4 THEN principal ELSE '' END AS principal,
           CASE WHEN ?5 THEN server ELSE '' END AS server,
           CASE WHEN ?6 THEN method ELSE '' END AS method,
           CASE WHEN ?7 THEN name ELSE '' END AS name,
           CASE WHEN ?4 OR ?8 THEN coalesce(tenant, '') ELSE '' END AS tenant,
           bucket, sum(calls) AS calls, sum(errors) AS errors, sum(micros) AS micros
    FROM metrics_usage_step LEFT JOIN metrics_principals USING (principal)
    WHERE start >= ?1 AND start < ?2
      AND (?9 = '' OR principal = ?9)
      AND (?10 = '' OR server = ?10)
      AND (?11 = '' OR name = ?11)
      AND (?12 = '' OR tenant = ?12)
    GROUP BY 1, 2, 3, 4, 5, 6, 7
)
SELECT start, principal, server, method, name, tenant, sum(calls), sum(errors), sum(micros),
       json_group_array(bucket ORDER BY bucket), json_group_array(calls ORDER BY bucket)
FROM fine
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY CASE ?13 WHEN 1 THEN sum(errors) WHEN 2 THEN sum(micros) * 1.0 / max(sum(calls), 1) ELSE sum(calls) END DESC,
         1, 2, 3, 4, 5, 6
LIMIT ?14
