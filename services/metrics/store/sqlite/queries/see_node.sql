INSERT INTO metrics_nodes (name, roles, version, address, started_at, seen_at)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE
SET roles      = excluded.roles,
    version    = excluded.version,
    address    = excluded.address,
    started_at = excluded.started_at,
    seen_at    = excluded.seen_at
