-- Replaces a task's state.
-- KEYS  task
-- ARGV  node, epoch, most bytes of spec and state, state
-- Reply {"ok"}, {"notfound"}, {"fenced"}, or {"toolarge", bytes} with nothing changed.
local no = refused(KEYS[1], ARGV[1], ARGV[2])
if no then
	return no
end
local size = redis.call('HSTRLEN', KEYS[1], 'spec') + #ARGV[4]
if size > tonumber(ARGV[3]) then
	return { 'toolarge', size }
end
redis.call('HSET', KEYS[1], 'state', ARGV[4])
return { 'ok' }
