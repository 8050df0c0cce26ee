INSERT INTO metrics_sessions (id, at, node, session_id, principal, kind, reason)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::text[])
    AS e (id, at, node, session_id, principal, kind, reason)
ORDER BY e.id
ON CONFLICT DO NOTHING
