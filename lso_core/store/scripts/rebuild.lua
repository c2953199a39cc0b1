#!lua flags=allow-oom
-- Asks for a rebuild of a system, or says what became of it.
-- KEYS  1 system  2 rebuild  3 rebuilds
-- ARGV  1 system id  2 the rebuild as JSON  3 kept for (s)  4 "1" where it waits to be done
-- Returns 1, or 0 where there is no such system
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('UNLINK', KEYS[2])
  redis.call('SREM', KEYS[3], ARGV[1])
  return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
if ARGV[4] == '1' then redis.call('SADD', KEYS[3], ARGV[1]) else redis.call('SREM', KEYS[3], ARGV[1]) end
return 1
