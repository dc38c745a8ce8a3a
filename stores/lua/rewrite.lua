-- ARGV: time to live, id of this call, then the old segments (first, last, commit id) and the new ones (first, entry,
-- bytes), each list after its length
local call = ARGV[2]
local now = row_fields('seq', 'call', 'expires')
if now.call == call then
  return {'done'} -- the driver may send a call twice
end
local count = tonumber(ARGV[3])
local last = 3 + 3 * count
if not now.seq or tonumber(ARGV[last - 1]) >= tonumber(now.seq) then
  return {'left'}
end
local old = redis.call('ZRANGEBYSCORE', SEGMENTS, ARGV[4], ARGV[last - 2])
if #old ~= count then
  return {'left'}
end
for i = 1, count do
  local first, ends, commit_id = string.match(old[i], '^(%d+):(%d+):%d+:(.*)$')
  if first ~= ARGV[3 * i + 1] or ends ~= ARGV[3 * i + 2] or commit_id ~= ARGV[3 * i + 3] then
    return {'left'}
  end
end

for i = 1, count do
  local first = ARGV[3 * i + 1]
  redis.call('HINCRBY', ROW, 'segment_bytes', 0 - redis.call('HSTRLEN', DATA, first)) -- a mere minus makes -0 of 0
  redis.call('ZREM', SEGMENTS, old[i])
  redis.call('HDEL', DATA, first)
end
for i = last + 2, last + 1 + 3 * tonumber(ARGV[last + 1]), 3 do
  add_segment(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
redis.call('HSET', ROW, 'call', call)
if now.expires then
  settle(ARGV[1])
end
return {'done'}
