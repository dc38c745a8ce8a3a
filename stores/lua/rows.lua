-- Rows that match, one answer for each key: the row as one string, 0 if it does not match, 1 if it is not there.
-- KEYS: rows. ARGV: conditions, each '' for none: statuses (each between commas); graph, driver, owner (after '=');
-- changed before this time; so many commits that housekeeping has not seen; then for each row the number of the thread
-- that is meant (another one of its id does not count as there)
local statuses, graph, driver, owner, before, untidied = unpack(ARGV)

local function differs(wanted, found)
  return wanted ~= '' and wanted ~= '=' .. found
end

local answer = {}
for i, key in ipairs(KEYS) do
  local now = redis.call('HMGET', key, 'status', 'graph', 'driver', 'owner', 'updated_at', 'seq', 'tidied', 'number')
  if not now[1] or (ARGV[6 + i] and ARGV[6 + i] ~= now[8]) then
    answer[i] = 1
  elseif (statuses ~= '' and not string.find(statuses, ',' .. now[1] .. ',', 1, true))
    or differs(graph, now[2]) or differs(driver, now[3]) or differs(owner, now[4])
    or (before ~= '' and tonumber(now[5]) >= tonumber(before))
    or (untidied ~= '' and tonumber(now[6]) - tonumber(now[7]) < tonumber(untidied)) then
    answer[i] = 0
  else
    answer[i] = cmsgpack.pack(redis.call('HGETALL', key))
  end
end
return answer
