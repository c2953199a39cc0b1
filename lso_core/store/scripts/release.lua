#!lua flags=allow-oom
-- Gives a partition's lease back, if the caller holds it. The epoch stays, so that whoever is next has a higher one.
-- KEYS  1 lease
-- ARGV  1 owner
-- Returns 1 if it was held, else 0
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'owner', '', 'until', 0)
return 1
