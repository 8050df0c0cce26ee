-- Writes into the directory that sessions are used. See reserve.lua for the keys.
-- KEYS  ids, expiry, then for each session its principal's sessions
-- ARGV  idle time in ms, then the ids in the same order
-- Reply {"ok"}.
local now = milliseconds()
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', whole(now), 'LIMIT', 0, 500)
if #gone > 0 then
	redis.call('ZREM', KEYS[1], unpack(gone))
	redis.call('ZREM', KEYS[2], unpack(gone))
end
local ends = whole(now + ARGV[1])
for i = 2, #ARGV do
	redis.call('ZADD', KEYS[1], 0, ARGV[i])
	redis.call('ZADD', KEYS[2], ends, ARGV[i])
	redis.call('ZADD', KEYS[i + 1], ends, ARGV[i])
end
for _, key in ipairs(KEYS) do
	raise(key, ARGV[1])
end
return { 'ok' }
