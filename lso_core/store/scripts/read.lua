#!lua flags=no-writes
-- Reads entries for folding, which wants their columns and not their bodies: those are most of a stream's bytes and stay here.
-- KEYS  1 stream
-- ARGV  1 first id, as XRANGE takes it  2 most entries  3 "back" to go backwards from there, newest first
-- Returns {{entry id, arrival (ms) or "", events or "", columns, bytes of columns and body}, …}
local found
if ARGV[3] == 'back' then found = redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', ARGV[2])
else found = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2]) end
for i = 1, #found do
  local entry, fields = {found[i][1], '', '', '', 0}, found[i][2]
  for j = 1, #fields, 2 do
    local name, value = fields[j], fields[j + 1]
    if name == 'at' then entry[2] = value
    elseif name == 'n' then entry[3] = value
    elseif name == 'c' then entry[4], entry[5] = value, entry[5] + #value
    elseif name == 'b' then entry[5] = entry[5] + #value end
  end
  found[i] = entry
end
return found
