-- Takes tokens from a bucket that holds one second's worth.
-- KEYS  bucket
-- ARGV  tokens a second, tokens wanted
-- Reply {tokens, milliseconds until there is one again}; the second is 0 where there are some. A second run takes
--       again: the caller has fewer than it might have.
-- The key is the time, in milliseconds, at which the bucket is full.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local each = 1000 / ARGV[1]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local free = math.floor((1000 - (full - now)) / each + 0.000001)
local taken = math.max(0, math.min(tonumber(ARGV[2]), free))
if taken == 0 then
	return { 0, math.max(1, math.ceil(full - now - 1000 + each)) }
end
full = full + taken * each
redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil(full - now) + 1000)
return { taken, 0 }
