-- Announce: append one committed change of PostgreSQL truth (room, member) to the room's events.
-- Idempotent by version and atomic with the room's ver, so an announcement that is repeated or
-- overtaken changes nothing. The archive backlog limit does not apply: the change is committed.
-- `access.changed` only raises ver, so that cached roles are read again: no event, nobody is told.
-- KEYS: life, room, log, archive, nodes, reads
-- ARGV: life_id, R, event, sender, version, data, log_length, inbox_prefix, inbox_max
-- RETURNS: {offset, seq, ms} | {'DONE'} | {'FENCED'} | {'COLD'}
-- include: clock
-- include: life
-- include: deliver
-- include: append
if not life_holds(KEYS[1], ARGV[1]) then return {'FENCED'} end
local room = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'seq', 'archived', 'ver')
if room[1] ~= ARGV[1] then return {'COLD'} end
if tonumber(ARGV[5]) <= tonumber(room[5]) then return {'DONE'} end
if ARGV[3] == 'access.changed' then
  redis.call('HSET', KEYS[2], 'ver', ARGV[5])
  return {'DONE'}
end
local ms_text = now_text()
local ms = tonumber(ms_text)
local keys = {life = KEYS[1], room = KEYS[2], log = KEYS[3], archive = KEYS[4], reads = KEYS[6]}
local tail = table.concat({ARGV[3], ARGV[2], ARGV[4], ARGV[5]}, ' ') .. '\n' .. ARGV[6]
local offset, seq = next_place(room, 0)
local entry = append(keys, room, tonumber(ARGV[7]), offset, string.format('%d', offset), seq, tail, ms_text)
redis.call('HSET', KEYS[2], 'ver', ARGV[5])
if ARGV[3] == 'room.deleted' then redis.call('HSET', KEYS[2], 'deleted', 1) end
deliver(KEYS[5], ARGV[8], tonumber(ARGV[9]), entry, ms)
return {offset, tonumber(seq), ms}
