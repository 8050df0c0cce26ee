INSERT INTO registry_removed (kind, name, version)
VALUES ($1, $2, $3)
ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version
