-- For each thread: status, segments and their bytes, messages and their bytes; '' if it is not there.
-- KEYS: row and segments of each thread
local answer = {}
for i = 1, #KEYS, 2 do
  local now = redis.call('HMGET', KEYS[i], 'status', 'segment_bytes', 'messages', 'message_bytes')
  answer[#answer + 1] = now[1] and {now[1], redis.call('ZCARD', KEYS[i + 1]), now[2], now[3], now[4]} or ''
end
return answer
