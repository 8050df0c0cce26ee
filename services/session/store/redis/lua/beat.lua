-- Renews a node's lease. See join.lua for the keys.
-- KEYS  the node's lease, nodes
-- ARGV  name, id of the lease, time to live in ms
-- Reply {"ok"}, or {"lost"} when it ran out or is another's.
local lease = redis.call('GET', KEYS[1])
if not lease or string.match(lease, '^[^\n]*') ~= ARGV[2] then
	return { 'lost' }
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], whole(milliseconds() + ARGV[3]), ARGV[1])
raise(KEYS[2], ARGV[3])
return { 'ok' }
