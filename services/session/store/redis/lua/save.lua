-- Changes a session's state.
-- KEYS  record
-- ARGV  node, epoch, most values, most bytes, number of names to remove, these names, then names and values to
--       set. No name is there twice.
-- Reply {"ok"}, {"notfound"}, {"fenced"}, or {"toolarge", values, bytes} with nothing changed.
-- The record's fields sn and sb count the values, and the bytes of names and values.
local no = refused(KEYS[1], ARGV[1], ARGV[2])
if no then
	return no
end
local counts = redis.call('HMGET', KEYS[1], 'sn', 'sb')
local values, bytes = tonumber(counts[1]), tonumber(counts[2])
local removed = tonumber(ARGV[5])
local function take(name)
	if redis.call('HEXISTS', KEYS[1], 's:' .. name) == 1 then
		values = values - 1
		bytes = bytes - #name - redis.call('HSTRLEN', KEYS[1], 's:' .. name)
	end
end
for i = 6, 5 + removed do
	take(ARGV[i])
end
for i = 6 + removed, #ARGV, 2 do
	take(ARGV[i])
	values = values + 1
	bytes = bytes + #ARGV[i] + #ARGV[i + 1]
end
if values > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4]) then
	return { 'toolarge', values, bytes }
end
for i = 6, 5 + removed do
	redis.call('HDEL', KEYS[1], 's:' .. ARGV[i])
end
for i = 6 + removed, #ARGV, 2 do
	redis.call('HSET', KEYS[1], 's:' .. ARGV[i], ARGV[i + 1])
end
redis.call('HSET', KEYS[1], 'sn', values, 'sb', bytes)
return { 'ok' }
