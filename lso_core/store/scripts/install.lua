#!lua
-- Creates a system in its partition, if it is not there yet.
-- KEYS  1 system  2 snapshot  3 details  4 fleet  5 fleet lines  6 stats  7 changes
-- ARGV  1 system id  2 record  3 revision  4 snapshot  5 details  6 fleet rank  7 fleet member  8 fleet line
-- Returns 1 if it was created, else 0
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[2], 'rev', ARGV[3], 'added', 0, 'entries', 0, 'bytes', 0)
redis.call('SET', KEYS[2], ARGV[4])
redis.call('SET', KEYS[3], ARGV[5])
redis.call('ZADD', KEYS[4], 0, ARGV[6] .. ARGV[7])
redis.call('HSET', KEYS[5], ARGV[1], ARGV[6] .. ARGV[8])
redis.call('ZADD', KEYS[7], redis.call('HINCRBY', KEYS[6], 'changes', 1), ARGV[1])
return 1
