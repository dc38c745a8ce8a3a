-- Takes out of a partition's indexes what refers to threads that expired. KEYS: index or due, then the threads' rows.
-- ARGV: for each row the number that its entry has, and the entry
for i = 2, #KEYS do
  if redis.call('HGET', KEYS[i], 'number') ~= ARGV[2 * i - 3] then
    redis.call('ZREM', KEYS[1], ARGV[2 * i - 2])
  end
end
