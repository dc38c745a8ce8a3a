-- The store's layout and number of partitions, kept when it is first opened. KEYS: layout. ARGV: layout, partitions,
-- whether to create it
if redis.call('EXISTS', KEYS[1]) == 0 then
  if ARGV[3] == '0' then
    return {}
  end
  redis.call('HSET', KEYS[1], 'layout', ARGV[1], 'partitions', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'layout', 'partitions')
