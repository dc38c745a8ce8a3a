-- Whether a fork was created under this token; if not, it never will be. KEYS: the fork's row, the tombstone.
-- ARGV: its origin, token, seconds that the tombstone stands (longer than any call may be under way)
local found = redis.call('HMGET', KEYS[1], 'origin_thread', 'origin_token')
if found[1] == ARGV[1] and found[2] == ARGV[2] then
  return 1
end
redis.call('SET', KEYS[2], '1', 'EX', ARGV[3])
return 0
