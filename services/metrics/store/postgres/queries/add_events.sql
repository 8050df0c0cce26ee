INSERT INTO metrics_audit (id, at, node, principal, method, object, outcome)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    AS e (id, at, node, principal, method, object, outcome)
ORDER BY e.id
ON CONFLICT DO NOTHING
