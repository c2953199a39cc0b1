#!lua
-- Changes a live system's record, if it is still as it was read.
-- KEYS  1 names  2 records  3 pending
-- ARGV  1 id  2 record read  3 new record  4 old name  5 new name
-- Returns {"ok"} | {"gone"} | {"moved"} | {"taken", id}
local record = redis.call('HGET', KEYS[2], ARGV[1])
if not record or string.sub(record, 1, 1) ~= 'L' then return {'gone'} end
if record ~= ARGV[2] then return {'moved'} end
if ARGV[4] ~= ARGV[5] then
  local other = redis.call('HGET', KEYS[1], ARGV[5])
  if other then return {'taken', tonumber(other)} end
  redis.call('HDEL', KEYS[1], ARGV[4])
  redis.call('HSET', KEYS[1], ARGV[5], ARGV[1])
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[3], tonumber(time[1]) * 1000, ARGV[1])
return {'ok'}
