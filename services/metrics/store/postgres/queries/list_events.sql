-- Events before ($1, $2) in the order of time and id, newest first; all where they are null.
SELECT id::text, at, node, principal, method, object, outcome
FROM metrics_audit
WHERE (at, id) < (coalesce($1::timestamptz, 'infinity'), coalesce($2::text::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY at DESC, id DESC
LIMIT $3
