#!lua flags=allow-oom
-- Keeps every process' own counters, and adds those of processes that are gone to one total, so that sums never fall.
-- KEYS  1 samples  2 seen  3 gone
-- ARGV  1 process, "" to only look  2 its samples, as one JSON object  3 gone after (ms)  4 "1" if it published before
-- Returns {now (ms), {name, value, … of the gone}, {samples of each live process, as JSON}}
--       | {now} where the process was taken for gone: it must count from here on, or it would count twice
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[1] ~= '' then
  if ARGV[4] == '1' and not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return {now} end
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('ZADD', KEYS[2], now, ARGV[1])
end
for _, process in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[3]), 'LIMIT', 0, 100)) do
  for name, value in pairs(cjson.decode(redis.call('HGET', KEYS[1], process) or '{}')) do
    redis.call('HINCRBYFLOAT', KEYS[3], name, string.format('%.17g', value))
  end
  redis.call('HDEL', KEYS[1], process)
  redis.call('ZREM', KEYS[2], process)
end
return {now, redis.call('HGETALL', KEYS[3]), redis.call('HVALS', KEYS[1])}
