-- Takes a principal's key for a call, or says what is known of that call.
-- KEYS  result, results of the principal
-- ARGV  digest, holder, the holder's lease in ms, time to live in ms, most results, name in results, "1" if the call
--       is repeatable
-- Reply {"reserved"}, {"working"}, {"abandoned"}, {"answered", answer}, {"other"} or {"full"}.
-- A result is a hash of digest, holder, until and, once there is one, answer. results is a sorted set of names by
-- the time at which they end.
local now = milliseconds()
local held = redis.call('HMGET', KEYS[1], 'digest', 'until', 'answer')
if held[1] then
	if held[1] ~= ARGV[1] then
		return { 'other' }
	end
	if held[3] then
		return { 'answered', held[3] }
	end
	if tonumber(held[2]) > now then
		return { 'working' }
	end
	if ARGV[7] ~= '1' then
		return { 'abandoned' }
	end
else
	redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now))
	if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then
		return { 'full' }
	end
end
redis.call('HSET', KEYS[1], 'digest', ARGV[1], 'holder', ARGV[2], 'until', whole(now + ARGV[3]))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], whole(now + ARGV[4]), ARGV[6])
raise(KEYS[2], ARGV[4])
return { 'reserved' }
