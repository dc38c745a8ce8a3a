-- Segments that overlap commits, newest first: entry and bytes, flat. ARGV: first, last (or '+inf'), most of them,
-- bytes after which the answer is cut short. Ends with whether it was.
local first, last, most, budget = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
-- Segments do not overlap each other: the one that covers `first` is the last that begins at or before it.
local low = redis.call('ZREVRANGEBYSCORE', SEGMENTS, first, '-inf', 'LIMIT', 0, 1)[1]
local from = first
if low and tonumber(string.match(low, '^%d+:(%d+)')) >= tonumber(first) then
  from = string.match(low, '^%d+')
end
local found, size = {}, 0
for _, member in ipairs(redis.call('ZREVRANGEBYSCORE', SEGMENTS, last, from, 'LIMIT', 0, most)) do
  if size >= budget then
    found[#found + 1] = '1'
    return found
  end
  local bytes = redis.call('HGET', DATA, string.match(member, '^%d+')) or ''
  size = size + #bytes + #member
  found[#found + 1] = member
  found[#found + 1] = bytes
end
found[#found + 1] = '0'
return found
