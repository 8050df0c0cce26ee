-- Renews the lease on a call under a key, keeps its answer, or frees the key. See reserve_result.lua.
-- KEYS  result, results of the principal
-- ARGV  "renew", "keep" or "free", holder, the holder's lease in ms, time to live in ms, name in results, answer
-- Reply {"ok"}, or {"fenced"} when the call is not the holder's or is answered.
local held = redis.call('HMGET', KEYS[1], 'holder', 'answer')
if held[1] ~= ARGV[2] or held[2] then
	return { 'fenced' }
end
if ARGV[1] == 'free' then
	redis.call('DEL', KEYS[1])
	redis.call('ZREM', KEYS[2], ARGV[5])
	return { 'ok' }
end
local now = milliseconds()
redis.call('HSET', KEYS[1], 'until', whole(now + ARGV[3]))
if ARGV[1] == 'keep' then
	redis.call('HSET', KEYS[1], 'answer', ARGV[6])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], whole(now + ARGV[4]), ARGV[5])
raise(KEYS[2], ARGV[4])
return { 'ok' }
