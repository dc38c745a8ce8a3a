-- KEYS: leases. ARGV: owner, its process, counter, the record. A lower counter of the same process is ignored.
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before then
  local counter, process = string.match(before, '^(%d+) ([^\n]*)\n')
  if process == ARGV[2] and tonumber(ARGV[3]) < tonumber(counter) then
    return 0
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ' ' .. ARGV[2] .. '\n' .. ARGV[4])
return 1
