-- Presence: the node says how many connections of a user it has in a room now (absolute).
-- Zero starts the grace; leave_due ends it. A node that has lost its inbox may have been reaped: a
-- count of its would stay for ever, so it is not taken, and its next name says it again.
-- KEYS: presence, inbox, rooms_of
-- ARGV: R, node, user, connections, gen, tag
-- RETURNS: number of users online | 'LOST'
-- include: clock
-- include: presence
local connections = tonumber(ARGV[4])
if connections > 0 then
  if redis.call('EXISTS', KEYS[2]) == 0 then return 'LOST' end
  redis.call('SADD', KEYS[3], ARGV[6] .. ' ' .. ARGV[1])
end
set_presence(KEYS[1], ARGV[3], ARGV[2], connections, tonumber(ARGV[5]), now_ms())
return redis.call('HLEN', KEYS[1])
