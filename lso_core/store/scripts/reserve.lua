#!lua
-- Reserves a name and an id for a new system.
-- KEYS  1 names  2 records  3 last id  4 pending
-- ARGV  1 name  2 spec  3 a reservation is taken over after (ms)
-- Returns {"ok", id, created (ms), revision} | {"taken", id}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local id, revision = redis.call('HGET', KEYS[1], ARGV[1]), 1
if id then
  local status, at, before = string.match(redis.call('HGET', KEYS[2], id) or '', '^(%a) (%d+) (%d+) ')
  if status ~= 'C' or now - tonumber(at) <= tonumber(ARGV[3]) then return {'taken', tonumber(id)} end
  revision = tonumber(before) + 1 -- its partition may have the system already, as it was described the first time
else
  id = string.format('%.0f', redis.call('INCR', KEYS[3]))
  redis.call('HSET', KEYS[1], ARGV[1], id)
end
redis.call('HSET', KEYS[2], id, 'C ' .. string.format('%.0f', now) .. ' ' .. revision .. ' ' .. ARGV[2])
redis.call('ZADD', KEYS[4], now, id)
return {'ok', tonumber(id), now, revision}
