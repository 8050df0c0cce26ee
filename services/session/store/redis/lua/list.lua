-- Reads a page of ids. See reserve.lua for the keys.
-- KEYS  ids, expiry
-- ARGV  the id to go on after, or ""; most ids
-- Reply the ids in order. Some may have expired.
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', whole(milliseconds()), 'LIMIT', 0, 500)
if #gone > 0 then
	redis.call('ZREM', KEYS[1], unpack(gone))
	redis.call('ZREM', KEYS[2], unpack(gone))
end
local from = ARGV[1] == '' and '-' or '(' .. ARGV[1]
return redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, ARGV[2])
