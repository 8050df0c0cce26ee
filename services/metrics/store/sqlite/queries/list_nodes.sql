SELECT name, roles, version, address, started_at, seen_at
FROM metrics_nodes
WHERE seen_at >= ?
ORDER BY name
