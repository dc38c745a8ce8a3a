-- Holds a commit of this thread for a fork that is about to be created. ARGV: time to live, the fork's id, seq, whether
-- the thread may be one that is being copied in (1 or 0)
local fork, at = ARGV[2], ARGV[3]
local now = row_fields('number', 'driver', 'seq', 'floor', 'origin_thread', 'origin_seq', 'expires')
if not now.number then
  return {'unknown'}
end
if now.driver == 'loading' and ARGV[4] == '0' then
  return {'refused', row(), redis.call('HVALS', FORKS)}
end
local seq = tonumber(at)
if now.origin_thread ~= '' and seq <= tonumber(now.origin_seq) then
  return {'inherited', now.origin_thread, row()}
end
local held = 0 <= seq and seq <= tonumber(now.seq)
if held and seq < tonumber(now.floor) then
  held = false
  local fields = redis.call('HGETALL', ROW)
  for i = 1, #fields, 2 do
    held = held or (string.sub(fields[i], 1, 5) == 'name:' and fields[i + 1] == at)
  end
  for _, other in ipairs(redis.call('HVALS', FORKS)) do
    held = held or string.match(other, '^%d+') == at
  end
end
if not held then
  return {'refused', row(), redis.call('HVALS', FORKS)}
end
-- No two registrations have the same token, nor have those of a thread that is deleted and created again.
local token = now.number .. ':' .. text(redis.call('HINCRBY', ROW, 'registrations', 1))
redis.call('HSET', FORKS, token, at .. ':' .. fork)
settle(ARGV[1])
return {'held', token}
