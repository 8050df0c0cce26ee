-- The first of the names (?2, a JSON array of pairs of kind and name) that a server other than ?1 has.
SELECT kind, name, server
FROM registry_names
WHERE server <> ?1
  AND (kind, name) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?2))
ORDER BY kind, name
LIMIT 1
