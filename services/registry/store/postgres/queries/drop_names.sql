-- Gives up the names of server $1 but for those given ($2 kinds, $3 names, in pairs).
DELETE FROM registry_names
WHERE server = $1
  AND (kind, name) NOT IN (SELECT * FROM unnest($2::smallint[], $3::text[]))
