-- Audit: which of the node's rooms it is not registered for, or behind in. Renews the expiry of rooms
-- that have one, since they have subscribers (a room without expiry has unarchived events and keeps none).
-- KEYS: (none: the keys follow from the tags; all lie on this server)
-- ARGV: node, ttl_ms, then for each room: tag, R, epoch, offset...
-- RETURNS: {position of the room (from 1), registered 0/1, epoch, offset}... of those that differ
local result = {}
local index = 0
for i = 3, #ARGV, 4 do
  index = index + 1
  local prefix, R = 'parley:{' .. ARGV[i] .. '}:', ARGV[i + 1]
  local room = redis.call('HMGET', prefix .. 'room:' .. R, 'epoch', 'offset')
  local registered = redis.call('HEXISTS', prefix .. 'nodes:' .. R, ARGV[1])
  if room[1] and redis.call('PTTL', prefix .. 'room:' .. R) > 0 then
    redis.call('PEXPIRE', prefix .. 'room:' .. R, ARGV[2])
    redis.call('PEXPIRE', prefix .. 'log:' .. R, ARGV[2])
    redis.call('PEXPIRE', prefix .. 'reads:' .. R, ARGV[2])
  end
  local moved = room[1] and (room[1] ~= ARGV[i + 2] or tonumber(room[2]) > tonumber(ARGV[i + 3]))
  if registered == 0 or moved then
    result[#result + 1] = {index, registered, room[1] or '', tonumber(room[2] or '-1')}
  end
end
return result
