-- Takes or renews the lease for $1 and $2 seconds: one row, or none where another holds it.
INSERT INTO registry_lease (id, holder, expires_at)
VALUES (1, $1, now() + make_interval(secs => $2))
ON CONFLICT (id) DO UPDATE
SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE registry_lease.holder = excluded.holder OR registry_lease.expires_at <= now()
