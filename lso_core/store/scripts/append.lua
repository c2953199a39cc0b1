#!lua
-- Appends one batch as one entry: all checks first, then the entry, then what counts it.
-- KEYS  1 system  2 stream  3 state  4 ready  5 parked  6 stats  7 prefix of the idempotency buckets  8 dead letters
-- ARGV  the same in every call of a system:
--       1 system id  2 allowed skew (ms)  3 bucket length (ms)  4 buckets to look back  5 most keys in a bucket
--       6 most unfolded events of the system  7 events a second or 0  8 consumer group  9 most dead letters
--       10 most folded bytes of the partition, where nothing may go that is not archived; else ""
--       of this call:
--       11 events  12 columns  13 body  14 latest ts (ms) or ""  15 key digest or ""  16 body digest
--       17 most unfolded bytes over all  18 unfolded bytes elsewhere
--       19… pairs of (reason, event) rejected
-- Returns {"ok", id} | {"duplicate", id, events} | {"missing"} | {"reuse"} | {"ahead", arrival}
--       | {"events", backlog} | {"bytes", backlog} | {"rate", wait ms} | {"keys", keys}
--       | {"hot", folded bytes}
local count = tonumber(ARGV[11])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- Redis writes a number that a script hands it as a double with 17 digits, which takes longer than to store it.
local function whole(number) return string.format('%d', number) end
local arrival = whole(now)

local system = redis.call('HMGET', KEYS[1], 'added', 'entries', 'bytes', 'rate_at', 'rate_left')
if not system[1] then return {'missing'} end

local bucket, keys, bucket_ms = nil, 0, tonumber(ARGV[3])
if ARGV[15] ~= '' then
  local current = math.floor(now / bucket_ms)
  for back = 0, tonumber(ARGV[4]) do
    local known = redis.call('HGET', KEYS[7] .. (current - back), ARGV[15])
    if known then
      if string.sub(known, 1, 16) ~= ARGV[16] then return {'reuse'} end
      local events, id = string.match(string.sub(known, 17), '^(%d+) (.*)$')
      return {'duplicate', id, tonumber(events)}
    end
  end
  bucket = KEYS[7] .. current
  keys = redis.call('HLEN', bucket)
  if keys >= tonumber(ARGV[5]) then return {'keys', keys} end
end

if ARGV[14] ~= '' and tonumber(ARGV[14]) > now + tonumber(ARGV[2]) then return {'ahead', now} end

-- pcall: where the state has gone bad nobody knows the system's backlog, and the cap over all must do.
local state = redis.pcall('HGET', KEYS[3], 'n')
local folded = not state and 0 or tonumber(state) or tonumber(system[1])
local backlog = tonumber(system[1]) - folded
if backlog + count > tonumber(ARGV[6]) then return {'events', backlog} end
local size = #ARGV[12] + #ARGV[13]
local stats = redis.call('HMGET', KEYS[6], 'added', 'events', 'entries', 'bytes', 'hot')
for i = 1, 5 do stats[i] = assert(tonumber(stats[i] or 0), 'the sums of a partition are no numbers') end
local bytes = stats[4] + tonumber(ARGV[18])
if bytes + size > tonumber(ARGV[17]) then return {'bytes', bytes} end
if ARGV[10] ~= '' then
  if stats[5] > tonumber(ARGV[10]) then return {'hot', stats[5]} end
end

local rate = tonumber(ARGV[7])
if rate > 0 then
  -- A bucket of one second's worth. A batch larger than that passes when it is full and leaves a debt.
  local left = tonumber(system[5] or rate)
  left = math.min(rate, left + (now - tonumber(system[4] or now)) * rate / 1000)
  local needed = math.min(count, rate)
  if left < needed then return {'rate', math.ceil((needed - left) * 1000 / rate)} end
  redis.call('HSET', KEYS[1], 'rate_at', arrival, 'rate_left', tostring(left - count))
end

local id, entries, size_before = '', tonumber(system[2] or 0), tonumber(system[3] or 0)
if count > 0 then
  local function add()
    return redis.call('XADD', KEYS[2], 'NOMKSTREAM', '*', 'at', arrival, 'n', ARGV[11], 'c', ARGV[12], 'b', ARGV[13])
  end
  id = add()
  if not id then -- the group is made at 0 before the first entry, or its lag would not be known
    redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[8], '0', 'MKSTREAM')
    id = add()
  end
  -- Sums are written whole: one call each where HINCRBY would need eight, which cost more than the entry does.
  redis.call(
    'HSET', KEYS[1], 'added', whole(system[1] + count), 'entries', whole(entries + 1), 'bytes', whole(size_before + size), 'last', id
  )
  redis.call(
    'HSET', KEYS[6], 'added', whole(stats[1] + count), 'events', whole(stats[2] + count), 'entries', whole(stats[3] + 1),
    'bytes', whole(stats[4] + size)
  )
  if not redis.call('ZSCORE', KEYS[5], ARGV[1]) then redis.call('ZADD', KEYS[4], 'NX', arrival, ARGV[1]) end
end

for at = 19, #ARGV, 2 do
  redis.call('XADD', KEYS[8], 'MAXLEN', '~', ARGV[9], '*', 'at', arrival, 'reason', ARGV[at], 'event', ARGV[at + 1])
end

if bucket then
  redis.call('HSET', bucket, ARGV[15], ARGV[16] .. count .. ' ' .. id)
  if keys == 0 then redis.call('PEXPIREAT', bucket, (math.floor(now / bucket_ms) + 1 + tonumber(ARGV[4])) * bucket_ms) end
end
return {'ok', id}
