-- Counts a session that is about to be created, unless there are too many.
-- KEYS  ids, expiry, the principal's sessions; all of the directory
-- ARGV  id, idle time in ms, most sessions, most of the principal
-- Reply {"ok", "1" when the directory did not have it else "0"}, {"total"} or {"principal"}.
--
-- expiry and the principal's sessions are sorted sets of ids by the time that the session expires unless it is
-- used; ids is one in the order of ids, for pages. What expired does not count, and goes on the way.
local id, now = ARGV[1], milliseconds()
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', whole(now), 'LIMIT', 0, 500)
if #gone > 0 then
	redis.call('ZREM', KEYS[1], unpack(gone))
	redis.call('ZREM', KEYS[2], unpack(gone))
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', whole(now))
local known = redis.call('ZSCORE', KEYS[2], id)
if not known then
	if redis.call('ZCOUNT', KEYS[2], '(' .. whole(now), '+inf') >= tonumber(ARGV[3]) then
		return { 'total' }
	end
	if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[4]) then
		return { 'principal' }
	end
	local ends = whole(now + ARGV[2])
	redis.call('ZADD', KEYS[1], 0, id)
	redis.call('ZADD', KEYS[2], ends, id)
	redis.call('ZADD', KEYS[3], ends, id)
	for _, key in ipairs(KEYS) do
		raise(key, ARGV[2])
	end
end
return { 'ok', known and '0' or '1' }
