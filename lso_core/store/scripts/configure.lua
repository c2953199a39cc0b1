#!lua flags=allow-oom
-- Gives a system's partition its changed record and has the lease holder judge it anew.
-- KEYS  1 system  2 due
-- ARGV  1 system id  2 record  3 revision
-- Returns 1 if the revision is new, else 0
local revision = redis.call('HGET', KEYS[1], 'rev')
if not revision or tonumber(revision) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[2], 'rev', ARGV[3])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 1
