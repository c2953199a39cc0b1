#!lua flags=allow-oom
-- Takes a system out of the registry, in two steps around the removal from its partition.
-- KEYS  1 names  2 records  3 ids  4 pending
-- ARGV  1 id  2 name  3 "mark" to hide it, "forget" to free its name
-- Returns 1 if it was there, else 0
local record = redis.call('HGET', KEYS[2], ARGV[1])
if not record then return 0 end
if ARGV[3] == 'mark' then
  if string.sub(record, 1, 1) ~= 'L' then return 0 end
  redis.call('HSET', KEYS[2], ARGV[1], 'D' .. string.sub(record, 2))
  redis.call('ZREM', KEYS[3], ARGV[1])
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[4], tonumber(time[1]) * 1000, ARGV[1])
  return 1
end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
if redis.call('HGET', KEYS[1], ARGV[2]) == ARGV[1] then redis.call('HDEL', KEYS[1], ARGV[2]) end
return 1
