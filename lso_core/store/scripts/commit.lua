#!lua flags=allow-oom
-- Commits one system's fold: refused unless the system exists, the caller holds the lease, and cursor and token are as
-- they were read; then everything is written, absolute values all.
-- KEYS  1 system  2 lease  3 state  4 stream  5 ready  6 due  7 stats  8 snapshot  9 details  10 fleet  11 fleet lines
--       12 marks  13 hot  14 dead letters  15 parked  16 changes  17 rows  18 watched runs  19 runs  20 run starts
--       21 unarchived  22 unfiled
-- ARGV  1 system id  2 owner  3 epoch  4 cursor read  5 token read  6 new cursor  7 new token  8 revision of the system
--       used  9 folded events  10 folded entries  11 folded bytes  12 arrival of the entry at the cursor (ms) or ""
--       13 next roll (ms) or ""  14 meta  15 snapshot  16 details  17 fleet rank  18 fleet member  19 fleet line
--       20 consumer group  21 mark every (ms)  22 mark every (bytes)  23 most dead letters
--       24 rows ever written  25 start of what is in none (ms)
--       26 next deadline of a run (ms) or ""  27 what is known of all runs or "" where it did not change
--       28 most settled runs  29 earliest start of a settled run that is kept (ms)
--       30 number of slot values  then pairs of (field, value)  then their number and fields that go
--       then their number and pairs of (start in ms, row)
--       then the number and triples of (run id, start in ms, run) of runs that are watched, then of those that settled
--       then the number and ids of runs that go  then pairs of (entry id, reason) for the dead letters
-- Returns {"ok", revision} | {"gone"} | {"fenced"} | {"moved"}
local function whole(number) return string.format('%d', number) end

local system = redis.call('HMGET', KEYS[1], 'rev', 'last', 'written')
if not system[1] then return {'gone'} end
local lease = redis.call('HMGET', KEYS[2], 'owner', 'epoch')
if lease[1] ~= ARGV[2] or lease[2] ~= ARGV[3] then return {'fenced'} end
local state = redis.call('HMGET', KEYS[3], 'c', 't', 'n', 'e', 'b', 'k', 'K')
if (state[1] or '') ~= ARGV[4] or (state[2] or '') ~= ARGV[5] then return {'moved'} end
local stats = redis.call('HMGET', KEYS[7], 'events', 'entries', 'bytes', 'hot', 'changes')
for i = 1, 5 do stats[i] = assert(tonumber(stats[i] or 0), 'the sums of a partition are no numbers') end

-- Where each part after the slots begins, at its number.
local dropped = 31 + 2 * tonumber(ARGV[30])
local rows = dropped + 1 + tonumber(ARGV[dropped])
local watched = rows + 1 + 2 * tonumber(ARGV[rows])
local settled = watched + 1 + 3 * tonumber(ARGV[watched])
local forgotten = settled + 1 + 3 * tonumber(ARGV[settled])
local dead = forgotten + 1 + tonumber(ARGV[forgotten])

-- Runs and rows first: of all that follows only their keys can be something else by now, and then the state may not be
-- written. Runs are absolute, so that it does no harm where they are and the rows are not.
for i = watched + 1, settled - 1, 3 do
  redis.call('HSET', KEYS[18], ARGV[i], ARGV[i + 2])
  redis.call('HDEL', KEYS[19], ARGV[i])
  redis.call('ZADD', KEYS[20], ARGV[i + 1], ARGV[i])
end
for i = settled + 1, forgotten - 1, 3 do
  redis.call('HSET', KEYS[19], ARGV[i], ARGV[i + 2])
  redis.call('HDEL', KEYS[18], ARGV[i])
  redis.call('ZADD', KEYS[20], ARGV[i + 1], ARGV[i])
end
for i = forgotten + 1, dead - 1 do
  redis.call('HDEL', KEYS[18], ARGV[i])
  if ARGV[i] ~= '' then redis.call('ZREM', KEYS[20], ARGV[i]) end
end
if ARGV[27] ~= '' then redis.call('HSET', KEYS[18], '', ARGV[27]) end
if forgotten > settled + 1 then
  local function drop(id)
    if redis.call('HDEL', KEYS[19], id) == 0 then return 0 end -- it is watched: that is for the worker to end
    return redis.call('ZREM', KEYS[20], id)
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[20], '-inf', '(' .. ARGV[29], 'LIMIT', 0, 1000)) do drop(id) end
  local over = redis.call('HLEN', KEYS[19]) - tonumber(ARGV[28])
  if over > 0 then
    for _, id in ipairs(redis.call('ZRANGE', KEYS[20], 0, over + redis.call('HLEN', KEYS[18]))) do
      if over > 0 then over = over - drop(id) end
    end
  end
end
for i = rows + 1, watched - 1, 2 do redis.call('ZADD', KEYS[17], ARGV[i], ARGV[i + 1]) end
if watched > rows + 1 or system[3] ~= ARGV[25] then
  redis.call('HSET', KEYS[1], 'rows', ARGV[24], 'written', ARGV[25])
end
if watched > rows + 1 then redis.call('ZADD', KEYS[22], 'NX', ARGV[25], ARGV[1]) end

-- One HSET: cursor, token, counters and slots go together or not at all.
local fields = {'c', ARGV[6], 't', ARGV[7], 'n', ARGV[9], 'e', ARGV[10], 'b', ARGV[11], 'm', ARGV[14], 'd', ARGV[26]}
if ARGV[12] ~= '' then
  fields[#fields + 1] = 'a'
  fields[#fields + 1] = ARGV[12]
end
for i = 31, dropped - 1 do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[3], unpack(fields))
for i = dropped + 1, rows - 1 do redis.call('HDEL', KEYS[3], ARGV[i]) end
if ARGV[13] == '' and rows > dropped + 1 then -- the window is drained: a server packs few fields anew, but only into a new key
  fields = redis.call('HGETALL', KEYS[3])
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[3], unpack(fields))
end

for i = dead, #ARGV, 2 do
  local entry = redis.call('XRANGE', KEYS[4], ARGV[i], ARGV[i])[1]
  if entry then
    redis.call('XADD', KEYS[14], 'MAXLEN', '~', ARGV[23], '*', 'entry', ARGV[i], 'reason', ARGV[i + 1], unpack(entry[2]))
  end
end

local events = tonumber(ARGV[9]) - tonumber(state[3] or 0)
local entries = tonumber(ARGV[10]) - tonumber(state[4] or 0)
local bytes = tonumber(ARGV[11]) - tonumber(state[5] or 0)
if entries > 0 then
  stats[1], stats[2], stats[3], stats[4] = stats[1] - events, stats[2] - entries, stats[3] - bytes, stats[4] + bytes
  local arrival = tonumber(ARGV[12])
  -- A mark says how many bytes lie up to an entry, so that trimming knows what it frees without reading entries.
  if tonumber(ARGV[11]) - tonumber(state[6] or 0) >= tonumber(ARGV[22]) or arrival - tonumber(state[7] or 0) >= tonumber(ARGV[21]) then
    redis.call('RPUSH', KEYS[12], ARGV[6] .. ' ' .. ARGV[12] .. ' ' .. ARGV[11] .. ' ' .. ARGV[9])
    redis.call('HSET', KEYS[3], 'k', ARGV[11], 'K', ARGV[12])
  end
  redis.call('ZADD', KEYS[13], 'NX', ARGV[12], ARGV[1])
  redis.call('ZADD', KEYS[21], 'NX', ARGV[12], ARGV[1])
  -- Only so that XINFO GROUPS shows a true lag; a stream that somebody removed has no group to move.
  redis.pcall('XGROUP', 'SETID', KEYS[4], ARGV[20], ARGV[6], 'ENTRIESREAD', ARGV[10])
end

local function id_parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms or 0), tonumber(seq or 0)
end
local last_ms, last_seq = id_parts(system[2] or '')
local ms, seq = id_parts(ARGV[6])
if last_ms < ms or (last_ms == ms and last_seq <= seq) then
  redis.call('ZREM', KEYS[5], ARGV[1])
elseif ARGV[12] ~= '' then -- also where it stood in no list, because it was parked
  redis.call('ZADD', KEYS[5], ARGV[12], ARGV[1])
else -- nothing is folded yet: where it stands by the arrival of its first entry it stays so
  redis.call('ZADD', KEYS[5], 'NX', last_ms, ARGV[1])
end
redis.call('ZREM', KEYS[15], ARGV[1])

redis.call('SET', KEYS[8], ARGV[15])
redis.call('SET', KEYS[9], ARGV[16])
local line = redis.call('HGET', KEYS[11], ARGV[1])
local rank = line and string.sub(line, 1, 1)
if rank ~= ARGV[17] then
  if rank then redis.call('ZREM', KEYS[10], rank .. ARGV[18]) end
  redis.call('ZADD', KEYS[10], 0, ARGV[17] .. ARGV[18])
end
local changed = line ~= ARGV[17] .. ARGV[19]
if changed then
  stats[5] = stats[5] + 1
  redis.call('HSET', KEYS[11], ARGV[1], ARGV[17] .. ARGV[19])
  redis.call('ZADD', KEYS[16], whole(stats[5]), ARGV[1])
end
if changed or entries > 0 then -- sums are written whole: one call where HINCRBY would need five
  redis.call(
    'HSET', KEYS[7], 'events', whole(stats[1]), 'entries', whole(stats[2]), 'bytes', whole(stats[3]), 'hot', whole(stats[4]),
    'changes', whole(stats[5])
  )
end

if system[1] ~= ARGV[8] then
  redis.call('ZADD', KEYS[6], 0, ARGV[1]) -- the system was changed meanwhile: again, with its new settings
elseif ARGV[13] == '' then
  redis.call('ZREM', KEYS[6], ARGV[1])
else
  redis.call('ZADD', KEYS[6], ARGV[13], ARGV[1])
end
return {'ok', system[1]}
