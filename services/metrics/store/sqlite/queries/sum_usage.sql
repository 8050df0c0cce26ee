-- Sums the minutes within [?1, ?2), keeping apart what ?3 to ?7 say; ?8 and ?9 filter where not empty.
SELECT CASE WHEN ?3 THEN minute END,
       CASE WHEN ?4 THEN principal ELSE '' END,
       CASE WHEN ?5 THEN server ELSE '' END,
       CASE WHEN ?6 THEN method ELSE '' END,
       CASE WHEN ?7 THEN name ELSE '' END,
       sum(calls), sum(errors), sum(micros)
FROM metrics_usage
WHERE minute >= ?1 AND minute < ?2
  AND (?8 = '' OR principal = ?8)
  AND (?9 = '' OR server = ?9)
GROUP BY 1, 2, 3, 4, 5
ORDER BY 6 DESC, 1, 2, 3, 4, 5
LIMIT ?10
