-- Keeps the tenants of principals, which are sorted, so that two batches do not wait for each other.
INSERT INTO metrics_principals AS p (principal, tenant)
SELECT principal, tenant FROM unnest($1::text[], $2::text[]) AS r (principal, tenant)
ON CONFLICT (principal) DO UPDATE SET tenant = excluded.tenant WHERE p.tenant <> excluded.tenant
