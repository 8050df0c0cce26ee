-- Gives the names ($2 kinds, $3 names, in pairs) to server $1, which may have some of them.
INSERT INTO registry_names (kind, name, server)
SELECT kind, name, $1 FROM unnest($2::smallint[], $3::text[]) AS claimed (kind, name)
ON CONFLICT DO NOTHING
