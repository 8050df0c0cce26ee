-- Takes a node's lease, whoever had it.
-- KEYS  the node's lease, nodes; both of the directory
-- ARGV  name, id of the lease, address, time to live in ms
-- Reply {"ok"}.
-- A lease is a string, the id and the address in lines. nodes is a sorted set of names by the end of the lease.
redis.call('SET', KEYS[1], ARGV[2] .. '\n' .. ARGV[3], 'PX', ARGV[4])
redis.call('ZADD', KEYS[2], whole(milliseconds() + ARGV[4]), ARGV[1])
raise(KEYS[2], ARGV[4])
return { 'ok' }
