INSERT INTO metrics_nodes (name, roles, version, address, started_at, seen_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO UPDATE
SET roles      = excluded.roles,
    version    = excluded.version,
    address    = excluded.address,
    started_at = excluded.started_at,
    seen_at    = excluded.seen_at
