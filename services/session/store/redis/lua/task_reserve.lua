-- Counts a task that is about to be created, unless there are too many.
-- KEYS  tasks, the principal's tasks; both of the directory
-- ARGV  id, time to live in ms, most tasks, most of the principal
-- Reply {"ok", "1" when the directory did not have it else "0"}, {"total"} or {"principal"}.
--
-- Both are sorted sets of ids by the time that the task ends. What ended does not count, and goes on the way.
local id, now = ARGV[1], milliseconds()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(now))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now))
local known = redis.call('ZSCORE', KEYS[1], id)
if not known then
	if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
		return { 'total' }
	end
	if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then
		return { 'principal' }
	end
	for _, key in ipairs(KEYS) do
		redis.call('ZADD', key, whole(now + ARGV[2]), id)
		raise(key, ARGV[2])
	end
end
return { 'ok', known and '0' or '1' }
