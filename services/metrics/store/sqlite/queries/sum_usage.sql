-- Sums the steps that start within [?1, ?2), keeping apart what ?3 to ?7 say; ?8 to ?10 filter where not empty. ?11 is
-- the order: 1 errors, 2 mean duration, else calls. The buckets, and how many calls each has, are two JSON arrays.
WITH fine AS (
    SELECT CASE WHEN ?3 THEN start END AS start,
           CASE WHEN ?4 THEN principal ELSE '' END AS principal,
           CASE WHEN ?5 THEN server ELSE '' END AS server,
           CASE WHEN ?6 THEN method ELSE '' END AS method,
           CASE WHEN ?7 THEN name ELSE '' END AS name,
           bucket, sum(calls) AS calls, sum(errors) AS errors, sum(micros) AS micros
    FROM metrics_usage_step
    WHERE start >= ?1 AND start < ?2
      AND (?8 = '' OR principal = ?8)
      AND (?9 = '' OR server = ?9)
      AND (?10 = '' OR name = ?10)
    GROUP BY 1, 2, 3, 4, 5, 6
)
SELECT start, principal, server, method, name, sum(calls), sum(errors), sum(micros),
       json_group_array(bucket ORDER BY bucket), json_group_array(calls ORDER BY bucket)
FROM fine
GROUP BY 1, 2, 3, 4, 5
ORDER BY CASE ?11 WHEN 1 THEN sum(errors) WHEN 2 THEN sum(micros) * 1.0 / max(sum(calls), 1) ELSE sum(calls) END DESC,
         1, 2, 3, 4, 5
LIMIT ?12
