return redis.call('HGETALL', FORKS)
