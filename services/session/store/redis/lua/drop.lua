-- Takes a session or a task out of the directory. See reserve.lua and task_reserve.lua for the keys.
-- KEYS  ids, expiry, the principal's sessions; or tasks, the principal's tasks
-- ARGV  id
-- Reply {"ok"}.
for _, key in ipairs(KEYS) do
	redis.call('ZREM', key, ARGV[1])
end
return { 'ok' }
