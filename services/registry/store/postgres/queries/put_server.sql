INSERT INTO registry_servers (name, spec, declared, state, message, offer, checked_at, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (name) DO UPDATE
SET spec       = excluded.spec,
    declared   = excluded.declared,
    state      = excluded.state,
    message    = excluded.message,
    offer      = excluded.offer,
    checked_at = excluded.checked_at,
    version    = excluded.version
