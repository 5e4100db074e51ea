-- Broadcast: hand one ephemeral event (offset 0, never stored) to the nodes of a room or user channel.
-- KEYS: nodes
-- ARGV: R, event, sender, data, inbox_prefix, inbox_max
-- RETURNS: ms
-- include: clock
-- include: deliver
local ms = now_ms()
local entry = table.concat({'/', 0, 0, ms, ARGV[2], ARGV[1], ARGV[3], 0}, ' ') .. '\n' .. ARGV[4]
deliver(KEYS[1], ARGV[5], tonumber(ARGV[6]), entry, ms)
return ms
