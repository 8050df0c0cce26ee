-- Ends a node's lease, if it still is the one named. See join.lua for the keys.
-- KEYS  the node's lease, nodes
-- ARGV  name, id of the lease
-- Reply {"ok"}.
local lease = redis.call('GET', KEYS[1])
if lease and string.match(lease, '^[^\n]*') == ARGV[2] then
	redis.call('DEL', KEYS[1])
	redis.call('ZREM', KEYS[2], ARGV[1])
end
return { 'ok' }
