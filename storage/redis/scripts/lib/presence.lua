-- presence:R maps a user to a packed map {node: {connections, gen, since_ms, leaving_ms}}.
-- A user is online while the field exists, so HLEN is the number of users online, and a node in
-- its grace (connections 0, leaving_ms set) still counts. Counts are absolute with a rising gen:
-- saying one twice, or late, changes nothing. `where` is the hash of the rooms of this partition
-- that the user is online in; it changes with the field.
local function read_presence(key, user)
  local packed = redis.call('HGET', key, user)
  if packed then return cmsgpack.unpack(packed) end
  return nil
end

-- Sets N's count of the user's connections; true if the user has just come online.
local function set_presence(key, where, R, user, node, connections, gen, ms)
  local nodes = read_presence(key, user)
  local came = nodes == nil
  if came then
    if connections == 0 then return false end
    nodes = {}
    redis.call('HSET', where, R, '')
  end
  local mine = nodes[node]
  if mine and mine[2] > gen then return false end
  if connections == 0 then
    if mine == nil then return false end
    nodes[node] = {0, gen, mine[3], ms}
  else
    nodes[node] = {connections, gen, mine and mine[3] or ms, 0}
  end
  redis.call('HSET', key, user, cmsgpack.pack(nodes))
  return came
end

-- Removes N's record of the user; true if the user has just gone offline.
local function drop_presence(key, where, R, user, nodes, node)
  nodes[node] = nil
  if next(nodes) == nil then
    redis.call('HDEL', key, user)
    redis.call('HDEL', where, R)
    return true
  end
  redis.call('HSET', key, user, cmsgpack.pack(nodes))
  return false
end

-- Tells the room's nodes that a user came or left and how many are online after that. A quiet room
-- names nobody; that it has just become quiet is told by the count. `at` is when it happened
-- (readers stamp it), `ms` is now. The user's alphabet needs no JSON escapes.
local function announce_presence(R, event, user, online, at, ms, quiet_users, nodes_key, inbox_prefix, inbox_max)
  local data = '{"user":"' .. user .. '","online":' .. online .. '}'
  if online > quiet_users then
    if event ~= 'presence.joined' or online > quiet_users + 1 then return end
    event, data = 'presence.count', '{"online":' .. online .. '}'
  end
  local entry = table.concat({'/', 0, 0, string.format('%d', at), event, R, user, 0}, ' ') .. '\n' .. data
  deliver(nodes_key, inbox_prefix, inbox_max, entry, ms)
end
