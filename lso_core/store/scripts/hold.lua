#!lua flags=allow-oom
-- Keeps what of a system is not archived from being dropped for a while, since somebody is about to archive it.
-- KEYS  1 system  2 archive
-- ARGV  1 for how long (ms)
-- Returns {"ok", the archive's mark, "" before the first} | {"gone"}
if redis.call('EXISTS', KEYS[1]) == 0 then return {'gone'} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[2], 'p', string.format('%.0f', now + tonumber(ARGV[1])))
return {'ok', redis.call('HGET', KEYS[2], 'e') or ''}
