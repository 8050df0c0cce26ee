-- Starts the idle time of a session anew.
-- KEYS  record, log, marks, trimmed of one session
-- ARGV  node, epoch, idle time in ms
-- Reply {"ok", principal}, {"notfound"} or {"fenced"}.
local no = refused(KEYS[1], ARGV[1], ARGV[2])
if no then
	return no
end
use(KEYS, ARGV[3])
return { 'ok', redis.call('HGET', KEYS[1], 'principal') }
