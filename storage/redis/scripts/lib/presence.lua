-- presence:R maps a user to a packed map {node: {connections, gen, since_ms, leaving_ms}}.
-- A user is online while the field exists, so HLEN is the number of users online, and a node in
-- its grace (connections 0, leaving_ms set) still counts. Counts are absolute with a rising gen:
-- saying one twice, or late, changes nothing.
local function read_presence(key, user)
  local packed = redis.call('HGET', key, user)
  if packed then return cmsgpack.unpack(packed) end
  return nil
end

-- Sets N's count of the user's connections; true if the user has just come online.
local function set_presence(key, user, node, connections, gen, ms)
  local nodes = read_presence(key, user)
  local came = nodes == nil
  if came then
    if connections == 0 then return false end
    nodes = {}
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
local function drop_presence(key, user, nodes, node)
  nodes[node] = nil
  if next(nodes) == nil then
    redis.call('HDEL', key, user)
    return true
  end
  redis.call('HSET', key, user, cmsgpack.pack(nodes))
  return false
end

-- Ephemeral event entry; the user's alphabet needs no JSON escapes. The time is stamped by readers.
local function presence_entry(epoch, R, event, user, online, ms)
  return table.concat({epoch, 0, 0, ms, event, R, user, 0}, ' ')
    .. '\n{"user":"' .. user .. '","online":' .. online .. '}'
end
