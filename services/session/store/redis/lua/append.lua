-- Appends messages to a stream, or closes it, and trims the session's log.
-- KEYS  record, log, marks, trimmed of one session
-- ARGV  node, epoch, stream, token of this call, its slot, most events, most bytes, greatest age in ms, most
--       trimmed streams, "append" or "close", then the messages
-- Reply {"ok", number of the first message}, {"notfound"}, {"fenced"} or {"closed"}. A second run with the same
-- token changes nothing and gives the same reply, as long as its slot was not used again.
--
-- log is a Redis stream with the events of all the session's streams. An entry's id is number-milliseconds; its
-- fields are s, the stream, and d, the message, or c for the closing.
-- marks is a hash: last, the number given last; bytes, of all messages in the log; first, a time not after that
-- of the first entry; forgotten, up to which streams unknown here and in trimmed may have lost events; r:slot,
-- token and reply of a call; s:stream, of each stream with entries "kept trimmed closed": how many entries it
-- has, up to which number it lost some or may have, and 0 or 1.
-- trimmed is a sorted set of the streams that lost all their entries, by the number of the last.
local no = refused(KEYS[1], ARGV[1], ARGV[2])
if no then
	return no
end
local log, marks, trimmed = KEYS[2], KEYS[3], KEYS[4]
local stream, token, slot = ARGV[3], ARGV[4], 'r:' .. ARGV[5]
local maxEvents, maxBytes, maxAge, maxTrimmed = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local closing = ARGV[10] == 'close'

local mark = redis.call('HMGET', marks, 'last', 'bytes', 'first', slot, 's:' .. stream, 'forgotten')
if mark[4] then
	local seen, reply = string.match(mark[4], '^(%S+) (%d+)$')
	if seen == token then
		return { 'ok', reply }
	end
end
local last, bytes, first = tonumber(mark[1] or 0), tonumber(mark[2] or 0), tonumber(mark[3] or 0)

local function state(text)
	local kept, lost, closed = string.match(text, '^(%d+) (%d+) (%d)$')
	return tonumber(kept), tonumber(lost), closed
end
local kept, lost, closed = 0, 0, '0'
if mark[5] then
	kept, lost, closed = state(mark[5])
	if closed == '1' then
		if closing then
			return { 'ok', '0' }
		end
		return { 'closed' }
	end
else
	local score = redis.call('ZSCORE', trimmed, stream)
	if score then
		redis.call('ZREM', trimmed, stream)
	end
	lost = tonumber(score or mark[6] or 0) -- an unknown stream may be one that was forgotten
end

local now = milliseconds()
local length = redis.call('XLEN', log)
local fresh = length == 0
if fresh then
	first = now
end
local start = closing and last + 1 or beyond(last)
last = start - 1
local function add(kind, message)
	last = last + 1
	kept = kept + 1
	length = length + 1
	bytes = bytes + #message
	redis.call('XADD', log, whole(last) .. '-' .. whole(now), 's', stream, kind, message)
end
if closing then
	closed = '1'
	add('c', '')
else
	for i = 11, #ARGV do
		add('d', ARGV[i])
	end
end
redis.call('HSET', marks, 's:' .. stream, whole(kept) .. ' ' .. whole(lost) .. ' ' .. closed)

-- Drop the oldest entries, whichever stream's they are, until the log is within its bounds.
while length > 0 and (length > maxEvents or bytes > maxBytes or first + maxAge < now) do
	local entry = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
	local number, at = string.match(entry[1], '^(%d+)%-(%d+)$')
	first = tonumber(at)
	if length <= maxEvents and bytes <= maxBytes and first + maxAge >= now then
		break
	end
	redis.call('XDEL', log, entry[1])
	length = length - 1
	bytes = bytes - #entry[2][4]
	local of = entry[2][2]
	local left, _, ends = state(redis.call('HGET', marks, 's:' .. of))
	if left > 1 then
		redis.call('HSET', marks, 's:' .. of, whole(left - 1) .. ' ' .. number .. ' ' .. ends)
	else
		redis.call('HDEL', marks, 's:' .. of)
		redis.call('ZADD', trimmed, number, of)
		fresh = true
	end
end
while redis.call('ZCARD', trimmed) > maxTrimmed do
	redis.call('HSET', marks, 'forgotten', redis.call('ZPOPMIN', trimmed)[2])
end

redis.call('HSET', marks, 'last', whole(last), 'bytes', whole(bytes), 'first', whole(first), slot, token .. ' ' .. whole(start))
if fresh then -- keys may be new: they end with the record
	local ttl = redis.call('PTTL', KEYS[1])
	for i = 2, 4 do
		redis.call('PEXPIRE', KEYS[i], ttl)
	end
end
return { 'ok', whole(start) }
