-- Events before (?1, ?2) in the order of time and id, newest first.
SELECT id, at, node, principal, method, object, outcome
FROM metrics_audit
WHERE (at, id) < (?1, ?2)
ORDER BY at DESC, id DESC
LIMIT ?3
