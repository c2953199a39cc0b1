#!lua flags=allow-oom
-- Says that a worker is alive and learns who else is; forgets those long silent.
-- KEYS  1 workers
-- ARGV  1 worker, "" to only look  2 what it reports  3 alive for (ms)  4 forgotten after (ms)
-- Returns {now (ms), worker, report, worker, report, …} of the live ones
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[1] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2]) end
local all, live = redis.call('HGETALL', KEYS[1]), {now}
for i = 1, #all, 2 do
  local at, report = string.match(all[i + 1], '^(%d+) (.*)$')
  if now - tonumber(at) <= tonumber(ARGV[3]) then
    live[#live + 1] = all[i]
    live[#live + 1] = report
  elseif ARGV[1] ~= '' and now - tonumber(at) > tonumber(ARGV[4]) then
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return live
