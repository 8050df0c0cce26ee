-- Put before every script of this package.

-- refused(record, node, epoch) is nil when node holds the session at epoch, else the reply to give:
-- {"notfound"} or {"fenced"}.
local function refused(record, node, epoch)
	local owner = redis.call('HMGET', record, 'node', 'epoch', 'released')
	if not owner[1] then
		return { 'notfound' }
	end
	if owner[1] ~= node or owner[2] ~= epoch or owner[3] == '1' then
		return { 'fenced' }
	end
	return nil
end

-- whole(n) is a number in digits: Lua would write a large one with an exponent.
local function whole(n)
	return string.format('%.0f', n)
end

-- milliseconds() is the server's clock.
local function milliseconds()
	local time = redis.call('TIME')
	return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- beyond(n) is a number above n that a replica which takes over, and lacks the last writes, does not give again: time
-- goes on meanwhile.
local function beyond(n)
	return math.max(n + 1, milliseconds())
end

-- raise(key, ttl) lets a key live for ttl milliseconds at least.
local function raise(key, ttl)
	if redis.call('PTTL', key) < tonumber(ttl) then
		redis.call('PEXPIRE', key, ttl)
	end
end

-- use(keys, ttl) starts the idle time of a session anew: the record's, which is keys[1], and that of its events.
local function use(keys, ttl)
	redis.call('HSET', keys[1], 'used', whole(milliseconds()))
	for _, key in ipairs(keys) do
		redis.call('PEXPIRE', key, ttl)
	end
end
