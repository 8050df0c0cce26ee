-- Events within [?1, ?2), newest first; ?3 and ?4 filter where not empty.
SELECT id, at, node, session_id, principal, kind, reason
FROM metrics_sessions
WHERE at >= ?1 AND at < ?2
  AND (?3 = '' OR principal = ?3)
  AND (?4 = '' OR session_id = ?4)
ORDER BY at DESC, id DESC
LIMIT ?5
