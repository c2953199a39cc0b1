#!lua flags=allow-oom
-- Makes a reserved system live.
-- KEYS  1 records  2 ids  3 pending
-- ARGV  1 id
-- Returns 1 if it is live now, 0 if it is gone
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record then return 0 end
local status = string.sub(record, 1, 1)
if status == 'D' then return 0 end
if status == 'C' then redis.call('HSET', KEYS[1], ARGV[1], 'L' .. string.sub(record, 2)) end
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
