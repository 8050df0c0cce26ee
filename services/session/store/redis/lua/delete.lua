-- Ends a session or a task.
-- KEYS  record, log, marks, trimmed of one session; or a task
-- ARGV  node, epoch
-- Reply {"ok", principal}, {"notfound"} or {"fenced"}.
local no = refused(KEYS[1], ARGV[1], ARGV[2])
if no then
	return no
end
local principal = redis.call('HGET', KEYS[1], 'principal')
redis.call('DEL', unpack(KEYS))
return { 'ok', principal }
