-- Makes a session's record.
-- KEYS  record, log, marks, trimmed of one session
-- ARGV  token of this call, idle time in ms, then the record's fields and values
-- Reply {"ok"}, or {"exists"}. A second run with the same token is "ok".
-- What is left of an earlier session's events under this id is removed.
local token = redis.call('HGET', KEYS[1], 'token')
if token == ARGV[1] then
	return { 'ok' }
end
if token then
	return { 'exists' }
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
local now = whole(milliseconds())
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'created', now, 'used', now, unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return { 'ok' }
