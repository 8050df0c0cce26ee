INSERT INTO metrics_sessions (id, at, node, session_id, principal, kind, reason)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
