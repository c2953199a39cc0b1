#!lua flags=allow-oom
-- Puts back on the lists what was forgotten there: systems with unfolded entries, windows that must roll, and runs with a
-- deadline. A net under the other scripts, which keep these lists themselves; it only adds work, so that it needs no lease.
-- KEYS  1 fleet lines  2 ready  3 due  4 parked
-- ARGV  1 scan cursor  2 about how many  3 prefix of system keys  4 prefix of state keys
-- Returns {next scan cursor, found}
local function after(one, other)
  local ms, seq = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_seq = string.match(other or '0-0', '^(%d+)-(%d+)$')
  ms, other_ms = tonumber(ms), tonumber(other_ms or 0)
  return ms > other_ms or (ms == other_ms and tonumber(seq) > tonumber(other_seq or 0))
end
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local found = 0
for i = 1, #page[2], 2 do
  local id = page[2][i]
  if not redis.call('ZSCORE', KEYS[4], id) then
    local last = redis.call('HGET', ARGV[3] .. id, 'last')
    local state = redis.pcall('HMGET', ARGV[4] .. id, 'c', 'a', 't', 'n', 'e', 'b', 'm', 'k', 'K', 'x', 'd')
    if last and after(last, state[1] or nil) then
      found = found + redis.call('ZADD', KEYS[2], 'NX', tonumber(state[2]) or string.match(last, '^(%d+)'), id)
    end
    -- Beside these fields, of which it need not have all, a state has only slots.
    local others = 0
    for j = 1, #state do if state[j] then others = others + 1 end end
    if state[1] and redis.call('HLEN', ARGV[4] .. id) > others then
      found = found + redis.call('ZADD', KEYS[3], 'NX', 0, id)
    elseif tonumber(state[11]) then
      found = found + redis.call('ZADD', KEYS[3], 'NX', state[11], id)
    end
  end
end
return {page[1], found}
