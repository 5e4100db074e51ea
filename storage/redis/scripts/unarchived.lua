-- The room's numbering and the first of its events that PostgreSQL may not have yet.
-- The epoch is not asked: after a fence the log still holds what was not archived before.
-- KEYS: room, log
-- ARGV: count
-- RETURNS: {} for a room that is not in Redis | {epoch, offset, seq, archived, ver, entries}
local room = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'seq', 'archived', 'ver')
if not room[1] then return {} end
local entries = {}
if room[4] ~= room[2] then
  local found = redis.call('XRANGE', KEYS[2], (room[4] + 1) .. '-0', '+', 'COUNT', ARGV[1])
  for i = 1, #found do entries[i] = found[i][2][2] end
end
return {room[1], tonumber(room[2]), tonumber(room[3]), tonumber(room[4]), tonumber(room[5]), entries}
