if redis.call('EXISTS', ROW) == 0 then
  return {}
end
return {redis.call('HGETALL', RUNS)}
