-- ARGV: time to live, epoch, token, commit id, first, first - 1, inbox expected ('' for any), highest run, status
-- ('' leaves it), wake_at ('' leaves it), the segment's entry, its bytes; then three lists, each after its length:
-- fields of the row (pairs), runs (number, what stays, what changes), messages applied (number, seq)
local ttl, epoch, token, commit_id, first, before, inbox, highest, status, wake_at, member, bytes = unpack(ARGV, 1, 12)
local now = row_fields('epoch', 'token', 'seq', 'inbox', 'status', 'runs', 'wake_at', 'number', 'thread', 'expires')
if not now.epoch then
  return {'fenced', '0'}
end
-- The answer to a first attempt may have been lost.
local _, _, kept = segment_at(first)
if kept == commit_id then
  return {'repeated', now.inbox}
end
if now.epoch ~= epoch or now.token ~= token or now.seq ~= before then
  return {'fenced', now.epoch}
end
if inbox ~= '' and inbox ~= now.inbox then
  return {'inbox', now.inbox}
end

local at = write_pairs(ROW, 13)
if tonumber(highest) > tonumber(now.runs) then
  redis.call('HSET', ROW, 'runs', highest)
end
add_segment(first, member, bytes)
local last = at + 3 * tonumber(ARGV[at])
for i = at + 1, last, 3 do
  redis.call('HSETNX', RUNS, ARGV[i] .. ':made', ARGV[i + 1])
  redis.call('HSET', RUNS, ARGV[i] .. ':now', ARGV[i + 2])
end
for i = last + 2, last + 2 * tonumber(ARGV[last + 1]), 2 do
  if redis.call('ZREM', UNREAD, ARGV[i]) == 1 then
    redis.call('HSET', MESSAGES, ARGV[i] .. ':applied', ARGV[i + 1])
  end
end
local status_after = status ~= '' and status or now.status
if status ~= '' or wake_at ~= '' then
  change_status(now.number, now.thread, now.status, status_after)
  schedule(now.number, now.thread, status_after, wake_at ~= '' and wake_at or now.wake_at)
end
if ENDED[status_after] or now.expires then
  settle(ttl)
end
return {'committed', now.inbox}
