SELECT name, roles, version, address, started_at, seen_at
FROM metrics_nodes
WHERE seen_at >= $1
ORDER BY name
