-- ARGV: time to live, message id, body, bytes of its payload, run it was meant for, whether it is allotted one, the
-- new run's record, whether it wakes what has ended, for which of its waits alone it wakes what is parked ('' for
-- any), whether it answers interrupts, time of the update ('' for none); what is expected: statuses (each between
-- commas), wait, run, head; then fields of the row (pairs, after their number)
local ttl, id, body, size, run, starts, record, revives, wakes_for, resumes, at = unpack(ARGV, 1, 11)
local statuses, wait, for_run, head = unpack(ARGV, 12, 15)
local now = row_fields('status', 'run', 'head', 'waits', 'inbox', 'runs', 'wake_at', 'number', 'thread', 'expires',
  'driver')
if not now.status then
  return {'unknown'}
end
local before = redis.call('HGET', MESSAGES, 'i:' .. id)
if before then
  return {'repeated', before, redis.call('HGET', MESSAGES, before .. ':run'), row()}
end
local waits = cjson.decode(now.waits)
-- A paused thread reads its signals when its pause ends.
local left, wanted = {}, wakes_for == ''
for _, open in ipairs(waits) do
  wanted = wanted or (open == wakes_for and now.status ~= 'paused')
  if wait ~= '' and open ~= wait then
    left[#left + 1] = open
  end
end
if now.driver == 'loading'
  or not string.find(statuses, ',' .. now.status .. ',', 1, true)
  or (for_run ~= '0' and for_run ~= now.run)
  or (head ~= '0' and head ~= now.head)
  or (wait ~= '' and #left == #waits) then
  return {'refused', row()}
end

local number = text(redis.call('HINCRBY', ROW, 'inbox', 1))
if starts == '1' then
  run = text(redis.call('HINCRBY', ROW, 'runs', 1))
  redis.call('HSET', RUNS, run .. ':made', record)
end
add_message(number, id, run, '0', body, size)
write_pairs(ROW, 16)
if resumes == '1' then
  -- An empty list would be encoded as an object.
  redis.call('HSET', ROW, 'waits', #left > 0 and cjson.encode(left) or '[]')
end
if at ~= '' then
  redis.call('HSET', ROW, 'updated_at', at)
end
if (PARKED[now.status] and wanted) or (ENDED[now.status] and revives == '1') then
  redis.call('HSET', ROW, 'status', 'queued')
  change_status(now.number, now.thread, now.status, 'queued')
  schedule(now.number, now.thread, 'queued', now.wake_at)
end
if now.expires then
  settle(ttl)
end
return {'kept', number, run, row()}
