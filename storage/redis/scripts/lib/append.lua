-- The offset of a room's next event, and its seq as text. Numbers are made into text once: Redis would
-- print each as a float, ten times slower. `room` is {epoch, offset, seq, archived, ...}.
local function next_place(room, step)
  if step == 0 then return room[2] + 1, room[3] end
  return room[2] + 1, string.format('%d', room[3] + step)
end

-- Write one durable event: log, archive, counters, in this order, after every refusal was checked.
-- The log keeps the newest log_length entries and everything that is not archived yet; whole nodes of it
-- go away at a time, so that it is enough to look with every sixteenth event.
-- A room that is archived as a whole may have an expiry, unless it is `settled` (see rest), which is the
-- seventh of `room` where the caller has read it. Keys as in change; `ms` is text; `tail` is the entry from the event's name on.
-- The size of the backlog is counted for one event in ten, tenfold: it bounds memory, no more.
local function append(keys, room, log_length, offset, offset_text, seq_text, tail, ms)
  local entry = room[1] .. ' ' .. offset_text .. ' ' .. seq_text .. ' ' .. ms .. ' ' .. tail
  local floor = offset - log_length
  if floor > 0 and offset % 16 == 0 then
    local archived = tonumber(room[4])
    if archived < floor then floor = archived end
    redis.call('XADD', keys.log, 'MINID', '~', string.format('%d', floor + 1), offset_text .. '-0', 'e', entry)
  else
    redis.call('XADD', keys.log, offset_text .. '-0', 'e', entry)
  end
  redis.call('XADD', keys.archive, '*', 'e', entry)
  redis.call('HSET', keys.room, 'offset', offset_text, 'seq', seq_text)
  if string.byte(ms, -1) == 55 then
    redis.call('HINCRBY', keys.life, 'bytes', string.format('%d', #entry * 10))
  end
  if room[4] == room[2] and room[7] ~= room[2] then
    redis.call('PERSIST', keys.room)
    redis.call('PERSIST', keys.log)
    redis.call('PERSIST', keys.reads)
  end
  return entry
end
