-- ARGV: retention ('' leaves it), floor ('' leaves it), seq seen by housekeeping ('' leaves it), when the thread was
-- created ('' if it may be any); then names and their checkpoints (pairs, after their number; 0 takes a name away), and
-- tags (pairs alike, with 1 to put one on and 0 to take it off)
local retention, floor, tidied, made_at = unpack(ARGV, 1, 4)
local now = row_fields('driver', 'seq', 'head', 'floor', 'tidied', 'origin_thread', 'origin_seq', 'tags', 'created_at')
if not now.seq or (made_at ~= '' and tonumber(now.created_at) ~= tonumber(made_at)) then
  return {'unknown'}
end
if now.driver == 'loading' then
  return {'refused', row(), {}}
end
local last = 5 + 2 * tonumber(ARGV[5])
local lowest, safe = tonumber(now.floor), {}
if lowest > 0 and last > 5 then
  local fields = redis.call('HGETALL', ROW)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 5) == 'name:' then
      safe[fields[i + 1]] = true
    end
  end
  for _, fork in ipairs(redis.call('HVALS', FORKS)) do
    safe[string.match(fork, '^%d+')] = true
  end
end
for i = 6, last, 2 do
  local seq = tonumber(ARGV[i + 1])
  if seq > 0 and ((now.origin_thread ~= '' and seq <= tonumber(now.origin_seq)) or seq > tonumber(now.seq)
    or (seq < lowest and not safe[ARGV[i + 1]])) then
    return {'refused', row(), redis.call('HVALS', FORKS)}
  end
end
if floor ~= '' and tonumber(floor) > tonumber(now.head) then
  return {'refused', row(), redis.call('HVALS', FORKS)}
end

for i = 6, last, 2 do
  if ARGV[i + 1] == '0' then
    redis.call('HDEL', ROW, 'name:' .. ARGV[i])
  else
    redis.call('HSET', ROW, 'name:' .. ARGV[i], ARGV[i + 1])
  end
end
if tonumber(ARGV[last + 1]) > 0 then
  local wanted, tags = {}, {}
  for i = last + 2, #ARGV, 2 do
    wanted[ARGV[i]] = ARGV[i + 1]
  end
  for _, tag in ipairs(cjson.decode(now.tags)) do
    if wanted[tag] ~= '0' then
      tags[#tags + 1] = tag
      wanted[tag] = nil
    end
  end
  for i = last + 2, #ARGV, 2 do
    if wanted[ARGV[i]] == '1' then
      tags[#tags + 1] = ARGV[i]
    end
  end
  -- An empty list would be encoded as an object.
  redis.call('HSET', ROW, 'tags', #tags > 0 and cjson.encode(tags) or '[]')
end
if retention ~= '' then
  redis.call('HSET', ROW, 'retention', retention)
end
if floor ~= '' and tonumber(floor) > lowest then
  redis.call('HSET', ROW, 'floor', floor)
end
if tidied ~= '' and tonumber(tidied) > tonumber(now.tidied) then
  redis.call('HSET', ROW, 'tidied', tidied)
end
return {'amended', row()}
