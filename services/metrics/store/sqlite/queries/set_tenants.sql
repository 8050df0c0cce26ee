-- Keeps the tenant of a principal.
INSERT INTO metrics_principals (principal, tenant) VALUES (?, ?)
ON CONFLICT (principal) DO UPDATE SET tenant = excluded.tenant WHERE tenant <> excluded.tenant
