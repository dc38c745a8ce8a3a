-- ARGV: time to live, thread id, what is known of its origin ('' for none, 'kept' if the row that is there has the
-- same, else a token), the origin's id and seq, id of this call; the last commit that is given ('+inf' if none), how far
-- the thread is to reach before it ('' if that does not matter; -1 where it is not to be there) and the id of that
-- commit; fields of the row (pairs, after their number); then three lists, each after its length: runs (number, what stays, what changes), messages (id, number, run, applied,
-- body, bytes of the payload), segments (first, entry, bytes)
local ttl, id, token, origin_thread, origin_seq, call, given, after, commit_id = unpack(ARGV, 1, 9)
local before = row_fields('driver', 'number', 'graph', 'status', 'segment_bytes', 'registrations', 'origin_thread',
  'origin_seq', 'origin_token', 'call')
if before.call == call then
  return {'loaded', '', ''} -- the driver may send a call twice
end
if before.driver and before.driver ~= 'loading' then
  return {'exists'}
end
if after ~= '' then
  local last, newest = newest_at(given)
  if not before.driver then
    last, newest = '-1', ''
  end
  if last ~= after or newest ~= commit_id then
    return {'left'}
  end
end
if token == 'kept' then
  if not before.driver or before.origin_thread ~= origin_thread or before.origin_seq ~= origin_seq then
    return {'void'}
  end
  token = before.origin_token
elseif token ~= '' and redis.call('EXISTS', TOMB) == 1 then
  return {'void'}
end

local number = before.number or next_number()
if before.driver then
  leave(number, id, before.graph, before.status)
  redis.call('UNLINK', ROW, RUNS, MESSAGES, UNREAD)
end
local at = write_pairs(ROW, 10)
redis.call('HSET', ROW, 'number', number, 'origin_token', token, 'segment_bytes', before.segment_bytes or '0',
  'registrations', before.registrations or '0', 'call', call)
local now = row_fields('graph', 'status', 'wake_at')
enter(number, id, now.graph, now.status)
schedule(number, id, now.status, now.wake_at)
local last = at + 3 * tonumber(ARGV[at])
for i = at + 1, last, 3 do
  redis.call('HSET', RUNS, ARGV[i] .. ':made', ARGV[i + 1], ARGV[i] .. ':now', ARGV[i + 2])
end
at = last + 1
last = at + 6 * tonumber(ARGV[at])
for i = at + 1, last, 6 do
  add_message(ARGV[i + 1], ARGV[i], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
end
at = last + 1
last = at + 3 * tonumber(ARGV[at])
for i = at + 1, last, 3 do
  if not segment_at(ARGV[i]) then
    add_segment(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  end
end
settle(ttl)
local dropped = before.origin_token and before.origin_token ~= token
return {'loaded', dropped and before.origin_thread or '', dropped and before.origin_token or ''}
