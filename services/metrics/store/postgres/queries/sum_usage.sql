-- Sums the minutes within [$1, $2), keeping apart what $3 to $7 say; $8 and $9 filter where not empty.
SELECT CASE WHEN $3::bool THEN minute END,
       CASE WHEN $4::bool THEN principal ELSE '' END,
       CASE WHEN $5::bool THEN server ELSE '' END,
       CASE WHEN $6::bool THEN method ELSE '' END,
       CASE WHEN $7::bool THEN name ELSE '' END,
       sum(calls)::bigint, sum(errors)::bigint, sum(micros)::bigint
FROM metrics_usage
WHERE minute >= $1 AND minute < $2
  AND ($8::text = '' OR principal = $8)
  AND ($9::text = '' OR server = $9)
GROUP BY 1, 2, 3, 4, 5
ORDER BY 6 DESC, 1, 2, 3, 4, 5
LIMIT $10
