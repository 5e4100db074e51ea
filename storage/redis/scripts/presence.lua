-- Presence: the node says how many connections of a user it has in a room now (absolute).
-- Zero starts the grace; leave_due ends it.
-- KEYS: presence
-- ARGV: node, user, connections, gen
-- RETURNS: number of users online
-- include: clock
-- include: presence
set_presence(KEYS[1], ARGV[2], ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), now_ms())
return redis.call('HLEN', KEYS[1])
