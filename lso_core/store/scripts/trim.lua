#!lua flags=allow-oom
-- Trims a partition's folded entries that are too old, or too many, oldest first; never past a cursor.
-- KEYS  1 lease  2 hot  3 stats
-- ARGV  1 owner  2 epoch  3 prefix of streams  4 prefix of states  5 prefix of marks  6 keep for (ms)
--       7 most folded bytes of the partition  8 most steps
-- Returns {entries, bytes, "1" if there is more to do}
local lease = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then return {0, 0, '0'} end
local time = redis.call('TIME')
local horizon = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(ARGV[6])
local hot, cap = tonumber(redis.call('HGET', KEYS[3], 'hot') or 0), tonumber(ARGV[7])
local entries, bytes = 0, 0

for _ = 1, tonumber(ARGV[8]) do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  if not oldest[1] or (tonumber(oldest[2]) > horizon and hot <= cap) then return {entries, bytes, '0'} end
  local id = oldest[1]
  -- pcall: a key gone bad must not end the trimming of its neighbours
  local state = redis.pcall('HMGET', ARGV[4] .. id, 'c', 'a', 'b', 'x')
  local trimmed, folded = tonumber(state[4]) or 0, tonumber(state[3]) or 0
  local mark = redis.pcall('LINDEX', ARGV[5] .. id, 0)
  local bad = type(mark) == 'table' or redis.call('TYPE', ARGV[3] .. id).ok ~= 'stream'
  if not state[1] or folded <= trimmed or bad then
    redis.call('ZREM', KEYS[2], id)
  else
    local upto, at, size
    if mark then upto, at, size = string.match(mark, '^(%S+) (%S+) (%S+)$')
    else upto, at, size = state[1], state[2], state[3] end
    local ms, seq = string.match(upto or '', '^(%d+)-(%d+)$')
    at, size = tonumber(at), tonumber(size)
    if not (ms and at and size) then -- gone bad as well: the next mark, or the next system
      if mark then redis.call('LPOP', ARGV[5] .. id) else redis.call('ZREM', KEYS[2], id) end
    elseif at > horizon and hot <= cap then
      redis.call('ZADD', KEYS[2], string.format('%.0f', at), id)
    else
      entries = entries + redis.call('XTRIM', ARGV[3] .. id, 'MINID', ms .. '-' .. string.format('%.0f', tonumber(seq) + 1))
      local freed = size - trimmed
      bytes, hot = bytes + freed, hot - freed
      redis.call('HINCRBY', KEYS[3], 'hot', string.format('%.0f', -freed))
      redis.call('HSET', ARGV[4] .. id, 'x', string.format('%.0f', size))
      if mark then redis.call('LPOP', ARGV[5] .. id) end
      if size >= folded then redis.call('ZREM', KEYS[2], id) else redis.call('ZADD', KEYS[2], string.format('%.0f', at), id) end
    end
  end
end
return {entries, bytes, '1'}
