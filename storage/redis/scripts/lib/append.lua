-- Write one durable event: log, archive, counters, in this order, after every refusal was checked.
-- The log keeps the newest log_length entries and everything that is not archived yet.
-- `room` is {epoch, offset, seq, archived, ...} as read by the caller; keys as in publish; `ms` is
-- text. Numbers are made into text once here: Redis would print each as a float, ten times slower.
-- The size of the backlog is counted for one event in ten, tenfold: it bounds memory, no more.
local function append(keys, room, log_length, event, R, sender, ver, step, data, ms)
  local offset, seq = room[2] + 1, room[3] + step
  local offset_text, seq_text = string.format('%d', offset), string.format('%d', seq)
  local entry = string.format('%s %s %s %s %s %s %s %s\n', room[1], offset_text, seq_text, ms, event, R,
    sender, ver) .. data
  local floor = offset - log_length
  if floor > 0 then
    local archived = tonumber(room[4])
    if archived < floor then floor = archived end
    redis.call('XADD', keys.log, 'MINID', '~', string.format('%d', floor + 1), offset_text .. '-0', 'e', entry)
  else
    redis.call('XADD', keys.log, offset_text .. '-0', 'e', entry)
  end
  redis.call('XADD', keys.archive, '*', 'e', entry)
  redis.call('HSET', keys.room, 'offset', offset_text, 'seq', seq_text)
  if string.sub(ms, -1) == '7' then
    redis.call('HINCRBY', keys.life, 'bytes', string.format('%d', #entry * 10))
  end
  if room[4] == room[2] then
    redis.call('PERSIST', keys.room)
    redis.call('PERSIST', keys.log)
    redis.call('PERSIST', keys.reads)
  end
  return offset, seq, entry
end
