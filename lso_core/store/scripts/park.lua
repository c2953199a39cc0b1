#!lua flags=allow-oom
-- Sets one system aside because it cannot be folded, so that it holds up nobody else, and says so where it is read.
-- KEYS  1 system  2 lease  3 ready  4 due  5 parked  6 snapshot  7 fleet  8 fleet lines  9 stats  10 changes
-- ARGV  1 system id  2 owner  3 epoch  4 try again in (ms), and unless they cannot be read
--       5 snapshot  6 fleet rank  7 fleet member  8 fleet line
-- Returns {"ok"} | {"gone"} | {"fenced"}
if redis.call('EXISTS', KEYS[1]) == 0 then return {'gone'} end
local lease = redis.call('HMGET', KEYS[2], 'owner', 'epoch')
if lease[1] ~= ARGV[2] or lease[2] ~= ARGV[3] then return {'fenced'} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[5], now + tonumber(ARGV[4]), ARGV[1])
if not ARGV[5] then return {'ok'} end
redis.call('SET', KEYS[6], ARGV[5])
local line = redis.call('HGET', KEYS[8], ARGV[1])
if line and string.sub(line, 1, 1) ~= ARGV[6] then redis.call('ZREM', KEYS[7], string.sub(line, 1, 1) .. ARGV[7]) end
redis.call('ZADD', KEYS[7], 0, ARGV[6] .. ARGV[7])
redis.call('HSET', KEYS[8], ARGV[1], ARGV[6] .. ARGV[8])
redis.call('ZADD', KEYS[10], redis.call('HINCRBY', KEYS[9], 'changes', 1), ARGV[1])
return {'ok'}
