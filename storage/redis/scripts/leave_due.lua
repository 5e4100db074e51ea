-- The grace of a user on a node is over: if still without connections there, the record goes, and
-- the last record of a user announces the leaving.
-- KEYS: presence, nodes, room
-- ARGV: R, node, user, quiet_users, inbox_prefix, inbox_max, grace_ms
-- RETURNS: 0, or the milliseconds that are left of the newest absence's grace
-- include: clock
-- include: deliver
-- include: presence
local nodes = read_presence(KEYS[1], ARGV[3])
if nodes == nil or nodes[ARGV[2]] == nil or nodes[ARGV[2]][1] > 0 then return 0 end
-- The user may have been back and gone again meanwhile: that absence has a grace of its own.
local left = tonumber(ARGV[7]) - (now_ms() - nodes[ARGV[2]][4])
if left > 0 then return left end
if not drop_presence(KEYS[1], ARGV[3], nodes, ARGV[2]) then return 0 end
local online = redis.call('HLEN', KEYS[1])
if online < tonumber(ARGV[4]) then
  local ms = now_ms()
  local epoch = redis.call('HGET', KEYS[3], 'epoch') or '/'
  deliver(KEYS[2], ARGV[5], tonumber(ARGV[6]), presence_entry(epoch, ARGV[1], 'presence.left', ARGV[3], online, ms), ms)
end
return 0
