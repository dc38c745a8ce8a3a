-- ARGV: time to live, then the old segments (first, last, commit id) and the new ones (first, entry, bytes), each list
-- after its length
local seq = redis.call('HGET', ROW, 'seq')
local count = tonumber(ARGV[2])
local last = 2 + 3 * count
if not seq or tonumber(ARGV[last - 1]) >= tonumber(seq) then
  return {'left'}
end
local old = redis.call('ZRANGEBYSCORE', SEGMENTS, ARGV[3], ARGV[last - 2])
if #old ~= count then
  return {'left'}
end
for i = 1, count do
  local first, ends, commit_id = string.match(old[i], '^(%d+):(%d+):%d+:(.*)$')
  if first ~= ARGV[3 * i] or ends ~= ARGV[3 * i + 1] or commit_id ~= ARGV[3 * i + 2] then
    return {'left'}
  end
end

for i = 1, count do
  local first = ARGV[3 * i]
  redis.call('HINCRBY', ROW, 'segment_bytes', 0 - redis.call('HSTRLEN', DATA, first)) -- a mere minus makes -0 of 0
  redis.call('ZREM', SEGMENTS, old[i])
  redis.call('HDEL', DATA, first)
end
for i = last + 2, last + 1 + 3 * tonumber(ARGV[last + 1]), 3 do
  add_segment(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
if redis.call('HEXISTS', ROW, 'expires') == 1 then
  settle(ARGV[1])
end
return {'done'}
