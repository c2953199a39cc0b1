#!lua flags=no-writes
-- Reads one system's history as it stands in Redis, at one moment: rows, and the slots that are in no row yet.
-- KEYS  1 system  2 state  3 rows
-- ARGV  1 from (ms)  2 to (ms, exclusive)  3 most rows  4 prefix of a slot's field  5 length of a slot (ms)
--       6 most slots that may be in no row yet
-- Returns {"gone"} | {"many", rows} | {"ok", rows, meta or "", pairs of (field, slot)}
if redis.call('EXISTS', KEYS[1]) == 0 then return {'gone'} end
local below = '(' .. ARGV[2]
local count = redis.call('ZCOUNT', KEYS[3], ARGV[1], below)
if count > tonumber(ARGV[3]) then return {'many', count} end
local rows = redis.call('ZRANGEBYSCORE', KEYS[3], ARGV[1], below)
local meta = redis.call('HGET', KEYS[2], 'm')
local written = tonumber(redis.call('HGET', KEYS[1], 'written') or ARGV[2])
local slots = {}
if meta and written < tonumber(ARGV[2]) then
  local first, fields = written / tonumber(ARGV[5]), {}
  for i = 1, tonumber(ARGV[6]) do fields[i] = ARGV[4] .. string.format('%d', first + i - 1) end
  local found = redis.call('HMGET', KEYS[2], unpack(fields))
  for i, field in ipairs(fields) do
    if found[i] then
      slots[#slots + 1] = field
      slots[#slots + 1] = found[i]
    end
  end
end
return {'ok', rows, meta or '', slots}
