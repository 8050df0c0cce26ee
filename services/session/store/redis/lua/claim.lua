-- Makes a node the owner of a session, at a later epoch.
-- KEYS  record, log, marks, trimmed of one session
-- ARGV  node, the epoch that it saw, token of this call, idle time in ms
-- Reply {"ok", epoch, principal}, {"notfound"}, or {"moved"} when the epoch is another. A second run with the
-- same token gives the same epoch.
--
-- The owner's lease is in another slot and was read before, together with the epoch. That is enough: if the
-- epoch is still the same, nobody has claimed the session since. An owner whose lease came back in between goes
-- on at the old epoch and each of its writes is refused from here on; one that noticed its lost lease and
-- claimed its session back has made the epoch another, and this claim fails.
local owner = redis.call('HMGET', KEYS[1], 'epoch', 'token', 'principal')
if not owner[1] then
	return { 'notfound' }
end
if owner[2] == ARGV[3] then
	return { 'ok', owner[1], owner[3] }
end
if owner[1] ~= ARGV[2] then
	return { 'moved' }
end
local epoch = whole(beyond(tonumber(owner[1])))
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'epoch', epoch, 'released', '0', 'token', ARGV[3])
use(KEYS, ARGV[4])
return { 'ok', epoch, owner[3] }
