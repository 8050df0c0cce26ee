-- Gives the names (?2, a JSON array of pairs of kind and name) to server ?1, which may have some of them.
INSERT INTO registry_names (kind, name, server)
SELECT value ->> 0, value ->> 1, ?1 FROM json_each(?2) WHERE true
ON CONFLICT DO NOTHING
