#!lua flags=allow-oom
-- Puts back on the lists what was forgotten there: systems with unfolded entries, windows that must roll, runs with a
-- deadline, and what is not archived. A net under the other scripts, which keep these lists themselves; it only adds work,
-- so that it needs no lease.
-- KEYS  1 fleet lines  2 ready  3 due  4 parked  5 unarchived  6 unfiled
-- ARGV  1 scan cursor  2 about how many  3 prefix of system keys  4 prefix of state keys
--       5 prefix of archives, "" where there is none  6 prefix of rows
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
    local state = redis.pcall('HMGET', ARGV[4] .. id, 'c', 'a', 't', 'n', 'e', 'b', 'm', 'k', 'K', 'x', 'd', 'X')
    if last and after(last, state[1] or nil) then
      found = found + redis.call('ZADD', KEYS[2], 'NX', tonumber(state[2]) or string.match(last, '^(%d+)'), id)
    end
    if ARGV[5] ~= '' and state[1] and tonumber(state[6] or 0) > tonumber(state[10] or 0) then
      local archived = redis.pcall('HGET', ARGV[5] .. id, 'e')
      if type(archived) ~= 'table' and (not archived or after(state[1], archived)) then
        found = found + redis.call('ZADD', KEYS[5], 'NX', tonumber(state[2]) or 0, id)
      end
    end
    if ARGV[5] ~= '' and not redis.call('ZSCORE', KEYS[6], id) and redis.call('EXISTS', ARGV[6] .. id) == 1 then
      found = found + redis.call('ZADD', KEYS[6], 0, id)
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
