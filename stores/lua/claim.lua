-- ARGV: epoch observed, epoch after, token, owner, whether it crashed, time of the update ('' for none)
local epoch, after, token, owner, crashed, at = unpack(ARGV)
local now = row_fields('epoch', 'token', 'owner', 'status', 'number', 'thread')
if not now.epoch then
  return {'unknown'}
end
if now.epoch == after and now.token == token and now.owner == owner then
  return {'held', row()}
end
if now.epoch ~= epoch then
  return {'lost', row()}
end
redis.call('HSET', ROW, 'epoch', after, 'token', token, 'owner', owner)
if RUNNABLE[now.status] then
  redis.call('HSET', ROW, 'status', 'running')
  change_status(now.number, now.thread, now.status, 'running')
end
-- An owner that had given the thread up before it crashed did not crash over it.
if crashed == '1' and now.token ~= '' then
  redis.call('HINCRBY', ROW, 'crashes', 1)
end
if at ~= '' then
  redis.call('HSET', ROW, 'updated_at', at)
end
return {'held', row()}
