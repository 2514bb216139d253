"""The Lua scripts of the Redis store. Each is atomic over one record and the index of its slot.

KEYS[1] is the record, a hash: v version, d data, a active (ms), x end (ms, absent without). KEYS[2] is the index, a
sorted set of user ids whose score is the record's death in ms. Redis expires the record at that time.
"""

_COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local idle = tonumber(ARGV[2])
local function death(active, finish)
  local idle_end = tonumber(active) + idle
  if finish and finish ~= '' and tonumber(finish) < idle_end then return tonumber(finish) end
  return idle_end
end
local function lives(record) return record[1] and now < death(record[3], record[4]) end
local function number(value) return string.format('%.0f', value) end
local function schedule(active, finish)
  local at = death(active, finish)
  redis.call('PEXPIREAT', KEYS[1], number(at))
  redis.call('ZADD', KEYS[2], number(at), ARGV[1])
end
"""

# ARGV: user, idle ms, expected version or '', new version, data, end in ms or ''. Answers {1, version} or {0, current}.
SET = (
    _COMMON
    + """
local record = redis.call('HMGET', KEYS[1], 'v', 'd', 'a', 'x')
if lives(record) then
  if record[1] == ARGV[4] then return {1, record[1]} end
  if ARGV[3] ~= record[1] then return {0, record[1]} end
  if record[2] == ARGV[5] and (record[4] or '') == ARGV[6] then
    if now - tonumber(record[3]) >= 60000 then
      redis.call('HSET', KEYS[1], 'a', number(now))
      schedule(now, record[4])
    end
    return {1, record[1]}
  end
elseif ARGV[3] ~= '' then
  return {0, ''}
end
redis.call('HSET', KEYS[1], 'v', ARGV[4], 'd', ARGV[5], 'a', number(now))
if ARGV[6] == '' then redis.call('HDEL', KEYS[1], 'x') else redis.call('HSET', KEYS[1], 'x', ARGV[6]) end
schedule(now, ARGV[6])
return {1, ARGV[4]}
"""
)

# ARGV: user, idle ms. Answers 1 for a live record.
TOUCH = (
    _COMMON
    + """
local record = redis.call('HMGET', KEYS[1], 'v', 'd', 'a', 'x')
if not lives(record) then return 0 end
if now - tonumber(record[3]) >= 60000 then
  redis.call('HSET', KEYS[1], 'a', number(now))
  schedule(now, record[4])
end
return 1
"""
)

# ARGV: user, idle ms. Answers 1 where there was a live record.
DELETE = (
    _COMMON
    + """
local record = redis.call('HMGET', KEYS[1], 'v', 'd', 'a', 'x')
local live = lives(record)
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if live then return 1 end
return 0
"""
)

# KEYS: the index, then a record each. ARGV: users ('' first, to fit the common part), idle ms, age ms, dry run 0 or 1,
# then a user for each record. Answers how many are dead or idle for the age: those are removed, unless it is a dry run.
PRUNE = (
    _COMMON
    + """
local count = 0
for i = 2, #KEYS do
  local user = ARGV[i + 3]
  local record = redis.call('HMGET', KEYS[i], 'v', 'd', 'a', 'x')
  if not lives(record) or now - tonumber(record[3]) >= tonumber(ARGV[3]) then
    count = count + 1
    if ARGV[4] == '0' then
      redis.call('DEL', KEYS[i])
      redis.call('ZREM', KEYS[1], user)
    end
  end
end
return count
"""
)
