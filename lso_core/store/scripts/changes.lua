#!lua flags=no-writes
-- The fleet lines of one partition that changed since a reader looked last.
-- KEYS  1 watermark  2 stats  3 changes  4 fleet lines
-- ARGV  1 position of the last look, or -1 for all lines
-- Returns {now (ms), watermark or false, position, number of lines there are, 1 if these are all of them, {system id, line, …}}
-- A reader that knows another number of lines than there are missed a deletion, and asks for all.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local watermark = redis.call('GET', KEYS[1])
local position = tonumber(redis.call('HGET', KEYS[2], 'changes') or 0)
local size = redis.call('HLEN', KEYS[4])
local since = tonumber(ARGV[1])
if since < 0 or position < since then -- a server that came back with older data counts on from there
  return {now, watermark, position, size, 1, redis.call('HGETALL', KEYS[4])}
end

local lines = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], '(' .. ARGV[1], '+inf', 'BYSCORE')) do
  local line = redis.call('HGET', KEYS[4], id)
  if line then
    lines[#lines + 1] = id
    lines[#lines + 1] = line
  end
end
return {now, watermark, position, size, 0, lines}
