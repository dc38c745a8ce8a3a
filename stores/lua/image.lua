-- Row, runs and messages of a thread at one moment
if redis.call('EXISTS', ROW) == 0 then
  return {}
end
return {row(), redis.call('HGETALL', RUNS), message_list(false)}
