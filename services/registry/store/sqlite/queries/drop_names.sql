-- Gives up the names of server ?1 but for those given (?2, a JSON array of pairs of kind and name).
DELETE FROM registry_names
WHERE server = ?1
  AND (kind, name) NOT IN (SELECT value ->> 0, value ->> 1 FROM json_each(?2))
