-- Takes a session out of the directory. See reserve.lua for the keys.
-- KEYS  ids, expiry, the principal's sessions
-- ARGV  id
-- Reply {"ok"}.
for _, key in ipairs(KEYS) do
	redis.call('ZREM', key, ARGV[1])
end
return { 'ok' }
