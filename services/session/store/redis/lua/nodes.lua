-- Names the nodes that live. See join.lua for the keys.
-- KEYS  nodes
-- ARGV  none
-- Reply the names in order of the end of their leases. Those that ended go on the way.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(milliseconds()))
return redis.call('ZRANGE', KEYS[1], 0, -1)
