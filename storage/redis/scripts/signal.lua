-- Signal: hand a member's ephemeral event to the nodes of its room, if its role still holds. Not stored.
-- KEYS: life, room, nodes
-- ARGV: life_id, R, user, version, origin, data, inbox_prefix, inbox_max
-- RETURNS: {ms} | {'FENCED'} | {'COLD'} | {'GONE'} | {'STALE', version}
-- include: clock
-- include: deliver
-- include: live
local refused = refuse_live(KEYS[1], KEYS[2], ARGV[1], ARGV[4])
if refused then return refused end
local ms = now_text()
deliver(KEYS[3], ARGV[7], tonumber(ARGV[8]), live_entry(ARGV[5], ms, 'signal', ARGV[2], ARGV[3], ARGV[6]), tonumber(ms))
return {tonumber(ms)}
