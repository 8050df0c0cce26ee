-- Makes a node the owner of a task, at a later epoch. See claim.lua for why the lease may be read before.
-- KEYS  task
-- ARGV  node, the epoch that it saw, token of this call
-- Reply {"ok", epoch}, {"notfound"}, or {"moved"} when the epoch is another. A second run with the same token gives
-- the same epoch.
local owner = redis.call('HMGET', KEYS[1], 'epoch', 'claim')
if not owner[1] then
	return { 'notfound' }
end
if owner[2] == ARGV[3] then
	return { 'ok', owner[1] }
end
if owner[1] ~= ARGV[2] then
	return { 'moved' }
end
local epoch = whole(beyond(tonumber(owner[1])))
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'epoch', epoch, 'released', '0', 'claim', ARGV[3])
return { 'ok', epoch }
