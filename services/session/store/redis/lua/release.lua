-- Gives a session or a task up for others to claim.
-- KEYS  record, or a task
-- ARGV  node, epoch
-- Reply {"ok"}, {"notfound"} or {"fenced"}. A second run is "ok".
local owner = redis.call('HMGET', KEYS[1], 'node', 'epoch')
if not owner[1] then
	return { 'notfound' }
end
if owner[1] ~= ARGV[1] or owner[2] ~= ARGV[2] then
	return { 'fenced' }
end
redis.call('HSET', KEYS[1], 'released', '1')
return { 'ok' }
