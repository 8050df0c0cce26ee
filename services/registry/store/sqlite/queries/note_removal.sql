INSERT INTO registry_removed (kind, name, version)
VALUES (?, ?, ?)
ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version
