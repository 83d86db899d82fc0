-- Takes requests from every window, or from none of them when one is full.
-- KEYS: a hash for each window. ARGV: for each window its seconds, its limit, and how many are taken at once; one that
-- has fewer left gives those.
-- Answers 1 when they were taken, else 0; then for each window how many, how many it has left, and the milliseconds
-- until it has more: one that is full, until it has one.
--
-- The windows are those of common/windows.py. A hash holds the number of each part that has one, their sum, and which part
-- is the oldest.
local PARTS = 60
local PARTS_KEPT = 61

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local windows = {}
local taken = 1

local function number_of(window, part)
  return tonumber(redis.call('HGET', window.key, part)) or 0
end

local function drop_the_past(window)
  while window.sum > 0 and window.oldest < window.part do
    local number = number_of(window, window.oldest)
    if number > 0 and window.oldest >= window.part - PARTS_KEPT then
      break
    end
    redis.call('HDEL', window.key, window.oldest)
    window.sum = window.sum - number
    window.oldest = window.oldest + 1
  end
  redis.call('HSET', window.key, 'sum', window.sum, 'oldest', window.oldest)
end

local function start_anew(window)
  redis.call('DEL', window.key)
  window.sum, window.oldest, window.newest = 0, window.part, 0
end

for at, key in ipairs(KEYS) do
  local seconds, limit, wanted = unpack(ARGV, at * 3 - 2, at * 3)
  local length = seconds * 1000 / PARTS
  local part = math.floor(now / length)
  local sum, oldest, newest = unpack(redis.call('HMGET', key, 'sum', 'oldest', part))
  local window = {key = key, limit = tonumber(limit), wanted = tonumber(wanted), length = length, part = part,
    sum = tonumber(sum) or 0, oldest = tonumber(oldest) or part, newest = tonumber(newest) or 0}
  windows[at] = window
  if window.oldest < part - PARTS_KEPT and window.oldest > part - PARTS * 3 then
    drop_the_past(window)
  end
  -- The last where the clock was set back; and no hash that is older than it can be may hold up all others.
  if window.sum <= 0 or window.oldest < part - PARTS_KEPT or window.oldest > part then
    start_anew(window)
  end
  if window.sum >= window.limit then
    taken = 0
  end
end

local answer = {taken}
for at, window in ipairs(windows) do
  local number = math.min(window.wanted, window.limit - window.sum) * taken
  if taken == 1 then
    redis.call('HSET', window.key, 'sum', window.sum + number, 'oldest', window.oldest)
    redis.call('HSET', window.key, window.part, window.newest + number)
    redis.call('PEXPIRE', window.key, math.ceil(window.length * (PARTS_KEPT + 2)))
  end
  answer[at * 3 - 1] = number
  answer[at * 3] = math.max(0, window.limit - window.sum - number)
  answer[at * 3 + 1] = math.ceil((window.oldest + 1 + PARTS_KEPT) * window.length - now)
end
return answer
