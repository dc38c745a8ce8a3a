-- Takes threads that expired out of a partition's indexes. KEYS: index, due, then the threads' rows. ARGV: for each row
-- the number that its entry has, the thread's id, its graph ('' if the entry does not tell)
for i = 3, #KEYS do
  local number, id, graph = ARGV[3 * i - 8], ARGV[3 * i - 7], ARGV[3 * i - 6]
  if redis.call('HGET', KEYS[i], 'number') ~= number then
    local place = number .. id
    redis.call('ZREM', KEYS[2], place)
    redis.call('ZREM', KEYS[1], 'n\0\0' .. place .. '\0' .. graph, 'g\0' .. graph .. '\0' .. place)
    for _, status in ipairs({'queued', 'running', 'interrupted', 'sleeping', 'waiting', 'paused', 'succeeded', 'failed',
      'cancelled'}) do
      redis.call('ZREM', KEYS[1], 's\0' .. status .. '\0' .. place)
    end
  end
end
