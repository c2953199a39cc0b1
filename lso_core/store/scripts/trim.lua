#!lua flags=allow-oom
-- Trims a partition's folded entries that are too old, or too many, oldest first; never past a cursor. Where there is an
-- archive, only what it has; past `most lossy` bytes the oldest of what it has not goes as well, and is counted as lost.
-- Where that is being archived just now nothing goes until there are `most held` bytes.
-- KEYS  1 lease  2 hot  3 stats  4 unarchived
-- ARGV  1 owner  2 epoch  3 prefix of streams  4 prefix of states  5 prefix of marks  6 keep for (ms)
--       7 most folded bytes of the partition  8 most steps  9 prefix of archives, "" where there is none
--       10 most folded bytes, lossy, or "" for never  11 most folded bytes, held
-- Returns {entries, bytes, "1" if there is more to do, events lost}
local lease = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then return {0, 0, '0', 0} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local horizon = now - tonumber(ARGV[6])
local hot, cap, lossy = tonumber(redis.call('HGET', KEYS[3], 'hot') or 0), tonumber(ARGV[7]), tonumber(ARGV[10])
local entries, bytes, lost = 0, 0, 0
local function whole(number) return string.format('%.0f', number) end

local function after(one, other)
  local ms, seq = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)-(%d+)$')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms > other_ms or (ms == other_ms and tonumber(seq) > tonumber(other_seq))
end

-- What is known of one system: its state, how far it is archived, and the mark to trim to next.
local look
function look(id)
  -- pcall: a key gone bad must not end the trimming of its neighbours
  local state = redis.pcall('HMGET', ARGV[4] .. id, 'c', 'a', 'b', 'x', 'n', 'X')
  local mark = redis.pcall('LINDEX', ARGV[5] .. id, 0)
  local archive = ARGV[9] ~= '' and redis.pcall('HMGET', ARGV[9] .. id, 'e', 'a', 'b', 'n') or {}
  local bad = type(mark) == 'table' or redis.call('TYPE', ARGV[3] .. id).ok ~= 'stream'
  local found = {trimmed = tonumber(state[4]) or 0, folded = tonumber(state[3]) or 0, gone = tonumber(state[6]) or 0}
  if not state[1] or found.folded <= found.trimmed or bad then return nil end
  found.mark, found.archived = mark, archive[1]
  if mark then found.upto, found.at, found.size, found.events = string.match(mark, '^(%S+) (%S+) (%S+) ?(%S*)$')
  else found.upto, found.at, found.size, found.events = state[1], state[2], state[3], state[5] end
  if not (string.match(found.upto or '', '^%d+%-%d+$') and tonumber(found.at) and tonumber(found.size)) then
    if not mark then return nil end -- gone bad as well: the next mark, or the next system
    redis.call('LPOP', ARGV[5] .. id)
    return look(id)
  end
  found.at, found.size, found.events = tonumber(found.at), tonumber(found.size), tonumber(found.events) or found.gone
  found.free = ARGV[9] == '' or (archive[1] and not after(found.upto, archive[1]))
  if not found.free and archive[1] and tonumber(archive[3]) > found.trimmed then -- as far as it goes
    found.free, found.mark = true, nil
    found.upto, found.at, found.size, found.events = archive[1], tonumber(archive[2]), tonumber(archive[3]), tonumber(archive[4])
  end
  return found
end

local function cut(id, found)
  local ms, seq = string.match(found.upto, '^(%d+)-(%d+)$')
  entries = entries + redis.call('XTRIM', ARGV[3] .. id, 'MINID', ms .. '-' .. whole(tonumber(seq) + 1))
  local freed = found.size - found.trimmed
  bytes, hot = bytes + freed, hot - freed
  redis.call('HINCRBY', KEYS[3], 'hot', whole(-freed))
  redis.call('HSET', ARGV[4] .. id, 'x', whole(found.size), 'X', whole(found.events))
  if found.mark then redis.call('LPOP', ARGV[5] .. id) end
end

-- The system with the oldest to lose; none while that is held and there is room for what it goes on to take.
local function loser()
  local id = redis.call('ZRANGE', KEYS[4], 0, 0)[1]
  if not id or hot > tonumber(ARGV[11]) then return id end
  local held = redis.pcall('HGET', ARGV[9] .. id, 'p')
  if tonumber(held or '') and tonumber(held) > now then return nil end
  return id
end

-- Drops what is not archived up to the next mark, and says so.
local function lose(id, found)
  local archive = ARGV[9] .. id
  local known = tonumber(redis.call('HGET', archive, 'n') or found.gone)
  local gap = math.max(0, found.events - known)
  redis.call('HSET', archive, 'e', found.upto, 'a', whole(found.at), 'b', whole(found.size), 'n', whole(found.events))
  redis.call('HINCRBY', archive, 'lost', whole(gap))
  redis.call('HINCRBY', KEYS[3], 'lost', whole(gap))
  lost = lost + gap
  cut(id, found)
  if found.size >= found.folded then redis.call('ZREM', KEYS[4], id)
  else redis.call('ZADD', KEYS[4], whole(found.at), id) end
end

for _ = 1, tonumber(ARGV[8]) do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  if not oldest[1] or (tonumber(oldest[2]) > horizon and hot <= cap) then
    local waiting = lossy and hot > lossy and loser()
    if not waiting then return {entries, bytes, '0', lost} end
    local found = look(waiting)
    if not found then redis.call('ZREM', KEYS[4], waiting)
    elseif found.free then redis.call('ZADD', KEYS[2], 'NX', whole(found.at), waiting) -- it was only forgotten there
    else lose(waiting, found) end
  else
    local id = oldest[1]
    local found = look(id)
    if not found then
      redis.call('ZREM', KEYS[2], id)
      if ARGV[9] == '' then redis.call('ZREM', KEYS[4], id) end
    elseif not found.free then
      redis.call('ZREM', KEYS[2], id) -- until the archive has more of it
      redis.call('ZADD', KEYS[4], 'NX', whole(found.at), id)
    elseif found.at > horizon and hot <= cap then
      redis.call('ZADD', KEYS[2], whole(found.at), id)
    else
      cut(id, found)
      if found.size >= found.folded then redis.call('ZREM', KEYS[2], id)
      else redis.call('ZADD', KEYS[2], whole(found.at), id) end
    end
  end
end
return {entries, bytes, '1', lost}
