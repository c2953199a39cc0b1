#!lua flags=allow-oom
-- Renews or takes a partition's lease and moves its watermark on.
-- KEYS  1 lease  2 ready  3 watermark  4 stats  5 parked  6 hot
-- ARGV  1 owner  2 lease (ms)  3 "1" to take the lease when it is free  4 prefix of system keys  5 prefix of state keys
-- Returns {1, epoch, now (ms), watermark (ms), "1" if taken just now, needs or ""} | {0}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lease = redis.call('HMGET', KEYS[1], 'owner', 'until', 'epoch', 'needs')
local epoch, taken = tonumber(lease[3] or 0), '0'

if lease[1] ~= ARGV[1] then
  if ARGV[3] ~= '1' or (lease[1] and lease[1] ~= '' and tonumber(lease[2]) > now) then return {0} end
  epoch, taken = epoch + 1, '1'
  -- A new holder counts the backlog and the hot tier afresh, whatever became of the running sums.
  local events, entries, bytes = 0, 0, 0
  for _, waiting in ipairs({KEYS[2], KEYS[5]}) do -- a system stands in one of them at most
    for _, id in ipairs(redis.call('ZRANGE', waiting, 0, -1)) do
      -- pcall: a key gone bad must not cost the partition its holder
      local added = redis.pcall('HMGET', ARGV[4] .. id, 'added', 'entries', 'bytes')
      local folded = redis.pcall('HMGET', ARGV[5] .. id, 'n', 'e', 'b')
      events = events + (tonumber(added[1]) or 0) - (tonumber(folded[1]) or 0)
      entries = entries + (tonumber(added[2]) or 0) - (tonumber(folded[2]) or 0)
      bytes = bytes + (tonumber(added[3]) or 0) - (tonumber(folded[3]) or 0)
    end
  end
  local hot = 0
  for _, id in ipairs(redis.call('ZRANGE', KEYS[6], 0, -1)) do
    local kept = redis.pcall('HMGET', ARGV[5] .. id, 'b', 'x')
    hot = hot + (tonumber(kept[1]) or 0) - (tonumber(kept[2]) or 0)
  end
  redis.call('HSET', KEYS[4], 'events', events, 'entries', entries, 'bytes', bytes, 'hot', hot)
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'until', now + tonumber(ARGV[2]), 'epoch', epoch)

local watermark = now
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if first[2] then watermark = math.min(now, tonumber(first[2])) end
redis.call('SET', KEYS[3], string.format('%.0f', watermark))
return {1, epoch, now, watermark, taken, lease[4] or ''}
