-- ARGV: time to live, thread id, id of its first message ('' for none), token of its origin ('' for none, 'unheld' if
-- it has one that does not know of it), id of this call; fields of the row (pairs, after their number); then, if there
-- is a message: number, run, body, bytes of its payload, and the record of the run that it is allotted ('' for none)
local ttl, id, message_id, token, call = unpack(ARGV, 1, 5)
if redis.call('EXISTS', ROW) == 1 then
  -- The driver may send a call twice.
  if redis.call('HGET', ROW, 'call') == call then
    return {'created', row()}
  end
  local kept = message_id ~= '' and redis.call('HGET', MESSAGES, 'i:' .. message_id)
  if kept then
    return {'repeated', kept, redis.call('HGET', MESSAGES, kept .. ':run'), row()}
  end
  return {'exists'}
end
if token == 'unheld' or (token ~= '' and redis.call('EXISTS', TOMB) == 1) then
  -- Whoever owns the origin has looked for this fork and was told that it will never come.
  return {'void'}
end

local number = next_number()
local at = write_pairs(ROW, 6)
redis.call('HSET', ROW, 'number', number, 'origin_token', token, 'call', call)
local now = row_fields('graph', 'status', 'wake_at')
enter(number, id, now.graph, now.status)
schedule(number, id, now.status, now.wake_at)
if message_id ~= '' then
  local message, run, body, size, record = unpack(ARGV, at, at + 4)
  add_message(message, message_id, run, '0', body, size)
  if record ~= '' then
    redis.call('HSET', RUNS, run .. ':made', record)
  end
end
settle(ttl)
return {'created', row()}
