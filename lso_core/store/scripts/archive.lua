#!lua flags=allow-oom
-- Moves the mark of a system's archive on: whatever lies up to it is durable elsewhere and may be trimmed. Refused where
-- the system is gone or the mark is not as it was read.
-- KEYS  1 system  2 archive  3 state  4 stream  5 hot  6 unarchived
-- ARGV  1 system id  2 mark as read  3 new mark  4 arrival at it (ms)  5 events  6 bytes between the two
-- Returns {"ok"} | {"gone"} | {"moved"}
if redis.call('EXISTS', KEYS[1]) == 0 then return {'gone'} end
local archive = redis.call('HMGET', KEYS[2], 'e', 'n', 'b')
if (archive[1] or '') ~= ARGV[2] then return {'moved'} end
local state = redis.call('HMGET', KEYS[3], 'c', 'x', 'X')
-- What was trimmed before there was an archive is neither archived nor lost.
local events = tonumber(archive[2] or state[3] or 0) + tonumber(ARGV[5])
local bytes = tonumber(archive[3] or state[2] or 0) + tonumber(ARGV[6])
redis.call('HSET', KEYS[2], 'e', ARGV[3], 'a', ARGV[4], 'n', events, 'b', bytes)
redis.call('HINCRBY', KEYS[2], 'kept', ARGV[5])
redis.call('HDEL', KEYS[2], 'p') -- nobody holds the rest

local following = redis.call('XRANGE', KEYS[4], '(' .. ARGV[3], '+', 'COUNT', 1)[1]
if following then
  redis.call('ZADD', KEYS[6], string.match(following[1], '^(%d+)'), ARGV[1])
else
  redis.call('ZREM', KEYS[6], ARGV[1])
end
redis.call('ZADD', KEYS[5], 'NX', ARGV[4], ARGV[1])
return {'ok'}
