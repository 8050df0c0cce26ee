-- The first of the names ($2 kinds, $3 names, in pairs) that a server other than $1 has.
SELECT kind, name, server
FROM registry_names
WHERE server <> $1
  AND (kind, name) IN (SELECT * FROM unnest($2::smallint[], $3::text[]))
ORDER BY kind, name
LIMIT 1
