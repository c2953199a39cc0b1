-- wrk's side of a load: cycles through prepared requests and writes a fresh number into each before it is sent.
-- Arguments: file of requests, file of their index, first number, requests a second or 0. Without any, wrk reads its URL
-- again and again by itself; at the end what came of it is told as one line of JSON either way.
-- The index holds uint32: how many requests, then of each its start, its length, how many marks, and where they stand.
local ffi = require("ffi")
ffi.cdef [[
  int open(const char *path, int flags);
  void *mmap(void *at, size_t length, int protection, int flags, int file, long offset);
  typedef struct { long s; long ns; } moment;
  int clock_gettime(int clock, moment *now);
]]

local MONOTONIC, READ_WRITE, PRIVATE = (jit.os == "OSX" and 6 or 1), 3, 2
local DIGITS, NUMBERS = 7, 10000000
local AHEAD_S = 1 -- a load that fell behind its pace makes up for so much
local index, index_text, requests, number, rate, due
local starts, total, turn = {}, 0, 0
local moment = ffi.new("moment")

local function seconds()
  ffi.C.clock_gettime(MONOTONIC, moment)
  return tonumber(moment.s) + tonumber(moment.ns) / 1e9
end

local function content(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function next_request()
  local at = starts[turn % total]
  local start, length, marks = index[at], index[at + 1], index[at + 2]
  local digits = string.format("%07d", number % NUMBERS)
  for mark = at + 3, at + 2 + marks do
    ffi.copy(requests + start + index[mark], digits, DIGITS)
  end
  turn, number = turn + 1, number + 1
  return ffi.string(requests + start, length)
end

local function pause_ms()
  local now = seconds()
  due = math.max(due or now, now - AHEAD_S) + 1 / rate
  return math.max(0, math.floor((due - now) * 1000))
end

function init(arguments)
  if #arguments == 0 then return end
  index_text = content(arguments[2]) -- kept, as the pointer leads into it
  index = ffi.cast("const uint32_t *", index_text)
  local at, size = 1, 0
  total = index[0]
  for place = 0, total - 1 do
    starts[place] = at
    size = index[at] + index[at + 1]
    at = at + 3 + index[at + 2]
  end
  requests = ffi.cast("char *", ffi.C.mmap(nil, size, READ_WRITE, PRIVATE, ffi.C.open(arguments[1], 0), 0))
  number, rate = tonumber(arguments[3]), tonumber(arguments[4])
  request = next_request
  if rate > 0 then delay = pause_ms end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"ended": %.6f, "seconds": %.6f, "requests": %d, "refused": %d, "broken": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    seconds(), summary.duration / 1e6, summary.requests, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
