INSERT INTO metrics_audit (id, at, node, principal, method, object, outcome)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
