-- Forgets forks that are not there and will never be. ARGV: time to live, their tokens
for i = 2, #ARGV do
  redis.call('HDEL', FORKS, ARGV[i])
end
settle(ARGV[1])
