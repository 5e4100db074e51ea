-- Write one durable event: log, archive, counters, in this order, after every refusal was checked.
-- The log keeps the newest log_length entries and everything that is not archived yet.
-- `room` is {epoch, offset, seq, archived, ...} as read by the caller; keys as in publish.
local function append(keys, room, log_length, event, R, sender, ver, step, data, ms)
  local offset = room[2] + 1
  local seq = room[3] + step
  local entry = table.concat({room[1], offset, seq, ms, event, R, sender, ver}, ' ') .. '\n' .. data
  local floor = offset - log_length
  if tonumber(room[4]) < floor then floor = tonumber(room[4]) end
  if floor < 0 then floor = 0 end
  redis.call('XADD', keys.log, 'MINID', '~', floor + 1, offset .. '-0', 'e', entry)
  redis.call('XADD', keys.archive, '*', 'e', entry)
  redis.call('HSET', keys.room, 'offset', offset, 'seq', seq)
  redis.call('HINCRBY', keys.life, 'bytes', #entry)
  if room[4] == room[2] then
    redis.call('PERSIST', keys.room)
    redis.call('PERSIST', keys.log)
    redis.call('PERSIST', keys.reads)
  end
  return offset, seq, entry
end
