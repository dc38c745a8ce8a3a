-- ARGV: time to live, when the fork was made, its origin's id and seq, id of this call; then segments (first, entry,
-- bytes), after their number
local ttl, made_at, origin_thread, origin_seq, call = unpack(ARGV, 1, 5)
local now = row_fields('driver', 'created_at', 'origin_thread', 'origin_seq', 'expires', 'call')
if now.call == call then
  return {'done'} -- the driver may send a call twice
end
if not same_fork(now, made_at, origin_thread, origin_seq) then
  return {'left'}
end
local final = 6 + 3 * tonumber(ARGV[6])
local last = string.match(ARGV[final - 1], '^%d+:(%d+)')
local before = newest_at(last)
if tonumber(before) >= tonumber(ARGV[7]) then
  return {'left'}
end

for i = 7, final, 3 do
  add_segment(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
redis.call('HSET', ROW, 'call', call)
if now.expires then
  settle(ttl)
end
return {'done'}
