-- ARGV: time to live, when the fork was made, its origin's id and seq, id of this call; the new origin's id, seq and
-- token ('' for none); floor, and for the run that it goes on with, what stays and what changes; then names and their
-- checkpoints (pairs, after their number)
local ttl, made_at, origin_thread, origin_seq, call = unpack(ARGV, 1, 5)
local thread, seq, token, floor, made, changes = unpack(ARGV, 6, 11)
local now = row_fields('driver', 'created_at', 'origin_thread', 'origin_seq', 'origin_token', 'floor', 'head', 'run',
  'expires', 'call')
if now.call == call then
  return {'adopted', '', ''} -- the driver may send a call twice
end
if not same_fork(now, made_at, origin_thread, origin_seq) then
  return {'left'}
end
if token ~= '' and redis.call('EXISTS', TOMB) == 1 then
  return {'void'}
end

for i = 13, 12 + 2 * tonumber(ARGV[12]), 2 do
  redis.call('HSETNX', ROW, 'name:' .. ARGV[i], ARGV[i + 1])
end
redis.call('HSET', ROW, 'origin_thread', thread, 'origin_seq', seq, 'origin_token', token, 'tidied', 0, 'call', call)
if tonumber(floor) > tonumber(now.floor) then
  redis.call('HSET', ROW, 'floor', floor)
end
if now.head ~= '0' and redis.call('HSETNX', RUNS, now.run .. ':made', made) == 1 then
  redis.call('HSET', RUNS, now.run .. ':now', changes)
end
if now.expires then
  settle(ttl)
end
return {'adopted', now.origin_thread, now.origin_token}
