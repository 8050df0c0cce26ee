-- Reads events of one stream. See append.lua for the keys.
-- KEYS  record, log, marks, trimmed of one session
-- ARGV  stream, the number to read after, most events
-- Reply {"ok", "1" when these are the last of a closed stream else "0", number, message, number, message...},
-- {"notfound"} or {"gone"}. It writes nothing.
if redis.call('EXISTS', KEYS[1]) == 0 then
	return { 'notfound' }
end
local stream, after, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local mark = redis.call('HMGET', KEYS[3], 's:' .. stream, 'forgotten')
if not mark[1] then
	if after < tonumber(redis.call('ZSCORE', KEYS[4], stream) or mark[2] or 0) then
		return { 'gone' }
	end
	return { 'ok', '0' }
end
local lost, closed = string.match(mark[1], '^%d+ (%d+) (%d)$')
if after < tonumber(lost) then
	return { 'gone' }
end
local reply = { 'ok', '0' }
local batch = 100
local from = whole(after + 1)
while true do
	local entries = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', batch)
	for _, entry in ipairs(entries) do
		local fields = entry[2]
		if fields[2] == stream then
			if fields[3] == 'c' then
				reply[2] = '1'
				return reply
			end
			if #reply - 2 == 2 * limit then
				return reply
			end
			reply[#reply + 1] = string.match(entry[1], '^(%d+)')
			reply[#reply + 1] = fields[4]
		end
	end
	if #entries < batch then
		break
	end
	from = '(' .. entries[#entries][1]
end
if #reply == 2 then -- after the closing itself nothing is left to find
	reply[2] = closed
end
return reply
