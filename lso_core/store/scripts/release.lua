#!lua flags=allow-oom
-- Gives a partition's lease back, if the caller holds it. The epoch stays, so that whoever is next has a higher one.
-- KEYS  1 lease
-- ARGV  1 owner  2 what a holder must be able to read, as JSON, where the caller cannot
-- Returns 1 if it was held, else 0
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('HSET', KEYS[1], 'owner', '', 'until', 0, 'since', now)
if ARGV[2] then redis.call('HSET', KEYS[1], 'needs', ARGV[2]) end
return 1
