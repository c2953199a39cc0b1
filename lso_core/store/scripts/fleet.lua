#!lua flags=no-writes
-- One partition's share of a fleet page, in the order of (rank, system).
-- KEYS  1 watermark  2 fleet  3 fleet lines
-- ARGV  1 cursor (rank and member) or ""  2 most lines  3 rank of UNKNOWN  4 stale after (ms)
-- Returns {now (ms), watermark or false, {systems by rank, from 0}, {system id, line, …}}
-- While the observer is behind every system here counts as UNKNOWN: then the lines of each rank after the cursor's
-- member come, for the reader to merge.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local watermark = redis.call('GET', KEYS[1])
local behind = not watermark or now - tonumber(watermark) > tonumber(ARGV[4])
local counts, members = {0, 0, 0, 0}, {}

for rank = 0, 3 do
  local size = redis.call('ZLEXCOUNT', KEYS[2], '[' .. rank, '(' .. (rank + 1))
  local slot = behind and tonumber(ARGV[3]) or rank
  counts[slot + 1] = counts[slot + 1] + size
end

local cursor_rank, cursor_member = string.sub(ARGV[1], 1, 1), string.sub(ARGV[1], 2)
local function take(low, high)
  for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], low, high, 'LIMIT', 0, ARGV[2])) do
    members[#members + 1] = member
  end
end
if not behind then
  take(ARGV[1] == '' and '-' or '(' .. ARGV[1], '+')
elseif cursor_rank == '' or cursor_rank <= ARGV[3] then
  local from = cursor_rank == ARGV[3] and cursor_member or ''
  for rank = 0, 3 do take((from == '' and '[' or '(') .. rank .. from, '(' .. (rank + 1)) end
end

local lines = {}
for _, member in ipairs(members) do
  local id = string.format('%.0f', tonumber(string.sub(member, 2)))
  local line = redis.call('HGET', KEYS[3], id)
  if line then
    lines[#lines + 1] = id
    lines[#lines + 1] = line
  end
end
return {now, watermark, counts, lines}
