#!lua flags=allow-oom
-- Moves the mark of a system's archived rows on, and takes those rows out of Redis: they are durable elsewhere. Refused
-- where the system is gone or the mark is not as it was read.
-- KEYS  1 system  2 archive  3 rows  4 unfiled
-- ARGV  1 system id  2 mark as read  3 new mark  4 start of the newest row (ms)  5 when to look again (ms)  6… the rows
-- Returns {"ok"} | {"gone"} | {"moved"}
if redis.call('EXISTS', KEYS[1]) == 0 then return {'gone'} end
if (redis.call('HGET', KEYS[2], 'r') or '0') ~= ARGV[2] then return {'moved'} end
local newest = math.max(tonumber(redis.call('HGET', KEYS[2], 'R') or 0), tonumber(ARGV[4]))
redis.call('HSET', KEYS[2], 'r', ARGV[3], 'R', string.format('%.0f', newest))
for i = 6, #ARGV do redis.call('ZREM', KEYS[3], ARGV[i]) end
if redis.call('EXISTS', KEYS[3]) == 0 then redis.call('ZREM', KEYS[4], ARGV[1])
else redis.call('ZADD', KEYS[4], ARGV[5], ARGV[1]) end
return {'ok'}
