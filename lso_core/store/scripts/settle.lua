#!lua flags=allow-oom
-- Ends a change of a system's record: nothing about it is pending, unless it was changed again.
-- KEYS  1 records  2 pending
-- ARGV  1 id  2 record as settled
-- Returns 1 if nothing is pending
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
