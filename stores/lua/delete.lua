-- ARGV: when the thread was created ('' if it may be any) and its last commit, as it was seen
-- Removes a thread, unless it is another one, runnable (and not being copied in), or forks are registered: whether those
-- are there has to be asked elsewhere.
local now = row_fields('number', 'thread', 'graph', 'status', 'driver', 'origin_thread', 'origin_token', 'created_at', 'seq')
if not now.number then
  return {'gone'}
end
if RUNNABLE[now.status] and now.driver ~= 'loading' then
  return {'refused', row()}
end
if ARGV[1] ~= '' and (tonumber(now.created_at) ~= tonumber(ARGV[1]) or now.seq ~= ARGV[2]) then
  return {'refused', row()}
end
if redis.call('EXISTS', FORKS) == 1 then
  return {'forks', redis.call('HGETALL', FORKS)}
end
leave(now.number, now.thread, now.graph, now.status)
redis.call('ZREM', DUE, now.number .. now.thread)
for i = 1, OWN do
  redis.call('UNLINK', KEYS[i])
end
return {'gone', now.origin_thread, now.origin_token}
