-- Rest: a room of which everything is archived expires, unless a node is registered in it: it is about to
-- be written to again, and setting three expiries and taking them away would cost more than its event.
-- `settled` of such a room is the offset at which none of its keys had an expiry. Whoever takes the last
-- node out of a room therefore lets it expire.
local function expire_room(prefix, R, ttl_ms)
  local room_key = prefix .. 'room:' .. R
  redis.call('HDEL', room_key, 'settled')
  redis.call('PEXPIRE', room_key, ttl_ms)
  redis.call('PEXPIRE', prefix .. 'log:' .. R, ttl_ms)
  redis.call('PEXPIRE', prefix .. 'reads:' .. R, ttl_ms)
end

local function rest_without_nodes(prefix, R, ttl_ms)
  local room = redis.call('HMGET', prefix .. 'room:' .. R, 'archived', 'offset', 'marks', 'settled')
  if room[4] and room[1] == room[2] and not room[3] and redis.call('EXISTS', prefix .. 'nodes:' .. R) == 0 then
    expire_room(prefix, R, ttl_ms)
  end
end
