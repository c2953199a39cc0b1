#!lua flags=allow-oom
-- Throws away what of a system's state cannot be read, and puts an empty one in its place. The system is parked, and the
-- lease given back: whoever takes it counts the partition's backlog and hot tier afresh, and goes on with the rebuild.
-- KEYS  1 system  2 lease  3 marks  4 state  5 ready  6 due  7 parked  8 hot  9 watched runs  10 runs
--       11 run starts
-- ARGV  1 system id  2 owner  3 epoch  4 parked for (ms)  5 arrival at the cursor (ms)
--       then the state's fields and values; none to throw away the marks alone
-- Returns {"ok"} | {"gone"} | {"fenced"}
if redis.call('EXISTS', KEYS[1]) == 0 then return {'gone'} end
local lease = redis.call('HMGET', KEYS[2], 'owner', 'epoch')
if lease[1] ~= ARGV[2] or lease[2] ~= ARGV[3] then return {'fenced'} end
redis.call('UNLINK', KEYS[3])
local kinds = {'hash', 'hash', 'zset'}
for i = 1, 3 do
  if redis.call('TYPE', KEYS[8 + i]).ok ~= kinds[i] then redis.call('UNLINK', KEYS[8 + i]) end
end
if not ARGV[6] then
  redis.call('ZADD', KEYS[8], 'NX', 0, ARGV[1]) -- trimming leaves out what has no sound marks, and puts it in its place now
  return {'ok'}
end
local time = redis.call('TIME')
redis.call('UNLINK', KEYS[4])
redis.call('HSET', KEYS[4], unpack(ARGV, 6))
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZADD', KEYS[7], tonumber(time[1]) * 1000 + tonumber(ARGV[4]), ARGV[1])
redis.call('ZADD', KEYS[8], ARGV[5], ARGV[1])
redis.call('HSET', KEYS[2], 'owner', '', 'until', 0)
return {'ok'}
