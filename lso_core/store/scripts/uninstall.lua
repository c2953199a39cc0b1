#!lua flags=allow-oom
-- Removes every key of a system from its partition. Appends and commits check that it exists, so nothing comes back.
-- KEYS  1 system  2 stream  3 state  4 snapshot  5 details  6 marks  7 dead letters  8 prefix of the idempotency buckets
--       9 ready  10 due  11 parked  12 hot  13 stats  14 fleet  15 fleet lines  16 rebuild  17 rebuilds  18 changes  19 rows
--       20 watched runs  21 runs  22 run starts  23 archive  24 unarchived  25 deleted systems whose files are still there
--       26 unfiled
-- ARGV  1 system id  2 fleet member  3 bucket length (ms)  4 buckets to look back
-- Returns 1 if it was there, else 0
local added = redis.call('HMGET', KEYS[1], 'added', 'entries', 'bytes')
if added[1] then
  local folded = redis.pcall('HMGET', KEYS[3], 'n', 'e', 'b', 'x') -- pcall: also what has gone bad can be deleted
  for i = 1, 4 do folded[i] = tonumber(folded[i]) or 0 end
  redis.call('HINCRBY', KEYS[13], 'events', folded[1] - tonumber(added[1]))
  redis.call('HINCRBY', KEYS[13], 'entries', folded[2] - tonumber(added[2]))
  redis.call('HINCRBY', KEYS[13], 'bytes', folded[3] - tonumber(added[3]))
  redis.call('HINCRBY', KEYS[13], 'hot', folded[4] - folded[3])
end
local removed = redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[16], KEYS[19])
redis.call('UNLINK', KEYS[20], KEYS[21], KEYS[22])
redis.call('SREM', KEYS[17], ARGV[1])
local bucket = math.floor(tonumber(redis.call('TIME')[1]) * 1000 / tonumber(ARGV[3]))
for back = -1, tonumber(ARGV[4]) do redis.call('UNLINK', KEYS[8] .. (bucket - back)) end
for i = 9, 12 do redis.call('ZREM', KEYS[i], ARGV[1]) end
redis.call('ZREM', KEYS[24], ARGV[1])
redis.call('ZREM', KEYS[26], ARGV[1])
if redis.call('UNLINK', KEYS[23]) == 1 then redis.call('SADD', KEYS[25], ARGV[1]) end
local line = redis.call('HGET', KEYS[15], ARGV[1])
if line then redis.call('ZREM', KEYS[14], string.sub(line, 1, 1) .. ARGV[2]) end
redis.call('HDEL', KEYS[15], ARGV[1])
redis.call('ZREM', KEYS[18], ARGV[1])
return removed > 0 and 1 or 0
