-- Stands before each script that changes a thread. A script that fails half-way leaves what it has written: each one
-- below asks and compares first, and from its first write on does nothing that can fail.
--
-- Keys of a thread and of its partition; numbers are kept and handed on as text, since Lua's are doubles.
local ROW, RUNS, MESSAGES, UNREAD, SEGMENTS, DATA, FORKS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local INDEX, DUE, CLOCK, TOMB = KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local OWN = 7 -- the first keys are the thread's own

local RUNNABLE = {queued = true, running = true}
local PARKED = {interrupted = true, sleeping = true, waiting = true, paused = true}
local ENDED = {succeeded = true, failed = true, cancelled = true}

local function text(number)
  return string.format('%.0f', number)
end

-- The whole row as one string.
local function row()
  return cmsgpack.pack(redis.call('HGETALL', ROW))
end

local function row_fields(...)
  local values, found = redis.call('HMGET', ROW, ...), {}
  for i, name in ipairs({...}) do
    found[name] = values[i]
  end
  return found
end

-- ARGV[at] pairs of field and value from ARGV[at + 1] on, written to a hash; where the arguments go on.
local function write_pairs(key, at)
  local last = at + 2 * tonumber(ARGV[at])
  for i = at + 1, last, 100 do -- Lua's stack does not take any number of arguments
    redis.call('HSET', key, unpack(ARGV, i, math.min(i + 99, last)))
  end
  return last + 1
end

-- One sorted set has an entry for each thing that threads are listed by: kind, value, then number and id. The one by
-- number alone ends with the graph: it has to tell where the others are when the row has expired.
local function entry(kind, value, number, id)
  return kind .. '\0' .. value .. '\0' .. number .. id
end

local function all_entry(number, id, graph)
  return entry('n', '', number, id .. '\0' .. graph)
end

local function enter(number, id, graph, status)
  redis.call('ZADD', INDEX, 0, all_entry(number, id, graph), 0, entry('g', graph, number, id),
    0, entry('s', status, number, id))
end

local function leave(number, id, graph, status)
  redis.call('ZREM', INDEX, all_entry(number, id, graph), entry('g', graph, number, id), entry('s', status, number, id))
end

local function change_status(number, id, before, after)
  if before ~= after then
    redis.call('ZREM', INDEX, entry('s', before, number, id))
    redis.call('ZADD', INDEX, 0, entry('s', after, number, id))
  end
end

local function schedule(number, id, status, wake_at)
  if PARKED[status] and tonumber(wake_at) > 0 then
    redis.call('ZADD', DUE, wake_at, number .. id)
  else
    redis.call('ZREM', DUE, number .. id)
  end
end

-- Whether a row is still that of the fork that somebody has read, and nothing else is done with it.
local function same_fork(now, made_at, origin_thread, origin_seq)
  return now.driver and now.driver ~= 'loading' and tonumber(now.created_at) == tonumber(made_at)
    and now.origin_thread == origin_thread and now.origin_seq == origin_seq
end

-- A number that no thread of the partition had: the time in microseconds, or one more than the last.
local function next_number()
  local time = redis.call('TIME')
  local now, last = tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(redis.call('GET', CLOCK) or '0')
  local number = string.format('%016.0f', now > last and now or last + 1)
  redis.call('SET', CLOCK, number)
  return number
end

-- Starts the time to live (milliseconds, 0 for none) of a thread that has ended and that no fork refers to, and ends
-- that of one that goes on. To be called after the last write: keys that came anew have to go with the others.
local function settle(ttl)
  local found = row_fields('status', 'driver', 'expires')
  local expires = found.expires
  if not found.status then
    return
  end
  if ENDED[found.status] and found.driver ~= 'loading' and redis.call('EXISTS', FORKS) == 0 then
    if not expires and ttl ~= '0' then
      local time = redis.call('TIME')
      expires = text(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ttl))
      redis.call('HSET', ROW, 'expires', expires)
    end
    if expires then
      for i = 1, OWN do
        redis.call('PEXPIREAT', KEYS[i], expires)
      end
    end
  elseif expires then
    redis.call('HDEL', ROW, 'expires')
    for i = 1, OWN do
      redis.call('PERSIST', KEYS[i])
    end
  end
end

local function add_message(number, id, run, applied, body, size)
  redis.call('HSET', MESSAGES, number, body, number .. ':run', run, 'i:' .. id, number)
  if applied == '0' then
    redis.call('ZADD', UNREAD, number, number)
  else
    redis.call('HSET', MESSAGES, number .. ':applied', applied)
  end
  redis.call('HINCRBY', ROW, 'messages', 1)
  redis.call('HINCRBY', ROW, 'message_bytes', size)
end

local function add_segment(first, member, bytes)
  redis.call('ZADD', SEGMENTS, first, member)
  redis.call('HSET', DATA, first, bytes)
  redis.call('HINCRBY', ROW, 'segment_bytes', #bytes)
end

-- The segment that begins at this commit: its entry (first:last:epoch:commit id), last and commit id.
local function segment_at(first)
  local member = redis.call('ZRANGEBYSCORE', SEGMENTS, first, first)[1]
  if member then
    local last, commit_id = string.match(member, '^%d+:(%d+):%d+:(.*)$')
    return member, last, commit_id
  end
end

-- How far the thread reaches: last and commit id of the newest segment that begins at or before a commit. Segments do not
-- overlap each other: of those that begin early enough the newest reaches the farthest.
local function newest_at(commit)
  local member = redis.call('ZREVRANGEBYSCORE', SEGMENTS, commit, '-inf', 'LIMIT', 0, 1)[1]
  if member then
    return string.match(member, '^%d+:(%d+):%d+:(.*)$')
  end
  return '0', ''
end

-- (number, run, applied, body) of messages, flat, in order of number.
local function message_list(only_unread)
  local numbers = {}
  if only_unread then
    numbers = redis.call('ZRANGE', UNREAD, 0, -1)
  else
    for _, field in ipairs(redis.call('HKEYS', MESSAGES)) do
      if not string.find(field, ':', 1, true) then
        numbers[#numbers + 1] = field
      end
    end
    table.sort(numbers, function(a, b) return tonumber(a) < tonumber(b) end)
  end
  local found = {}
  for _, number in ipairs(numbers) do
    local kept = redis.call('HMGET', MESSAGES, number .. ':run', number .. ':applied', number)
    found[#found + 1] = number
    found[#found + 1] = kept[1]
    found[#found + 1] = kept[2] or '0'
    found[#found + 1] = kept[3]
  end
  return found
end
