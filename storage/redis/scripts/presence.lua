-- Presence: the node says how many connections of a user it has in a room now (absolute).
-- Zero starts the grace; leave_due ends it. A node that has lost its inbox may have been reaped: a
-- count of its would stay for ever, so it is not taken, and its next name says it again; who was
-- announced as gone meanwhile is announced as back.
-- KEYS: presence, inbox, rooms_of, nodes, where
-- ARGV: R, node, user, connections, gen, tag, quiet_users, inbox_prefix, inbox_max
-- RETURNS: number of users online | 'LOST'
-- include: clock
-- include: deliver
-- include: presence
local R, connections = ARGV[1], tonumber(ARGV[4])
if connections > 0 then
  if redis.call('EXISTS', KEYS[2]) == 0 then return 'LOST' end
  redis.call('SADD', KEYS[3], ARGV[6] .. ' ' .. R)
end
local ms = now_ms()
local came = set_presence(KEYS[1], KEYS[5], R, ARGV[3], ARGV[2], connections, tonumber(ARGV[5]), ms)
local online = redis.call('HLEN', KEYS[1])
if came then
  announce_presence(R, 'presence.joined', ARGV[3], online, ms, ms, tonumber(ARGV[7]), KEYS[4], ARGV[8],
    tonumber(ARGV[9]))
end
return online
