-- The grace of a user on a node is over: if still without connections there, the record goes, and
-- the last record of a user announces the leaving, as of the moment when the last connection ended.
-- KEYS: presence, nodes, where
-- ARGV: R, node, user, quiet_users, inbox_prefix, inbox_max, grace_ms
-- RETURNS: 0, or the milliseconds that are left of the newest absence's grace
-- include: clock
-- include: deliver
-- include: presence
local nodes = read_presence(KEYS[1], ARGV[3])
if nodes == nil or nodes[ARGV[2]] == nil or nodes[ARGV[2]][1] > 0 then return 0 end
-- The user may have been back and gone again meanwhile: that absence has a grace of its own.
local ms = now_ms()
local left_at = nodes[ARGV[2]][4]
local left = tonumber(ARGV[7]) - (ms - left_at)
if left > 0 then return left end
if not drop_presence(KEYS[1], KEYS[3], ARGV[1], ARGV[3], nodes, ARGV[2]) then return 0 end
announce_presence(ARGV[1], 'presence.left', ARGV[3], redis.call('HLEN', KEYS[1]), left_at, ms,
  tonumber(ARGV[4]), KEYS[2], ARGV[5], tonumber(ARGV[6]))
return 0
