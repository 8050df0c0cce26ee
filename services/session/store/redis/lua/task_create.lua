-- Makes a task's record.
-- KEYS  task
-- ARGV  token of this call, time to live in ms, node, principal, spec, state
-- Reply {"ok"}, or {"exists"}. A second run with the same token is "ok".
local token = redis.call('HGET', KEYS[1], 'token')
if token == ARGV[1] then
	return { 'ok' }
end
if token then
	return { 'exists' }
end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'node', ARGV[3], 'epoch', '1', 'released', '0', 'principal', ARGV[4], 'spec', ARGV[5], 'state', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return { 'ok' }
