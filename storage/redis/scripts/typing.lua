-- Typing: a user begins to type in a room on a node, goes on, or has ended there. Over all nodes one
-- typing.started passes in `pause_ms`; typing.stopped passes when the last node has ended, and only
-- after a typing.started. A quiet room hears neither. The key of a user who types expires by itself,
-- so nothing is left of a node that died.
-- KEYS: life, room, nodes, presence, typing
-- ARGV: life_id, R, node, user, version, is_active, origin, expires_ms, pause_ms, quiet_users, inbox_prefix, inbox_max
-- RETURNS: {ms until the next typing.started may pass} | {'FENCED'} | {'COLD'} | {'GONE'} | {'STALE', version}
-- include: clock
-- include: deliver
-- include: live
-- include: quiet
local is_active = ARGV[6] == '1'
if is_active then
  local refused = refuse_live(KEYS[1], KEYS[2], ARGV[1], ARGV[5])
  if refused then return refused end
end
local ms_text = now_text()
local ms, expires_ms, pause_ms = tonumber(ms_text), tonumber(ARGV[8]), tonumber(ARGV[9])
local packed = redis.call('GET', KEYS[5])
-- {when typing.started passed last, whether it still counts, {node: until}}
local state = packed and cmsgpack.unpack(packed) or {0, false, {}}
local nodes = {}
for node, until_ms in pairs(state[3]) do
  if until_ms > ms and node ~= ARGV[3] then nodes[node] = until_ms end
end
if is_active then nodes[ARGV[3]] = ms + expires_ms end
local event, data
if is_active and ms - state[1] >= pause_ms then
  state[1], state[2] = ms, true
  event, data = 'typing.started', string.format('{"user":"%s","expires_in":%d}', ARGV[4], expires_ms / 1000)
elseif next(nodes) == nil and state[2] then
  state[2] = false
  event, data = 'typing.stopped', '{"user":"' .. ARGV[4] .. '"}'
end
local wait_ms = math.max(0, state[1] + pause_ms - ms)
if next(nodes) ~= nil then
  redis.call('SET', KEYS[5], cmsgpack.pack({state[1], state[2], nodes}), 'PX', string.format('%d', expires_ms + pause_ms))
elseif wait_ms > 0 then
  redis.call('SET', KEYS[5], cmsgpack.pack({state[1], state[2], nodes}), 'PX', string.format('%d', wait_ms))
else
  redis.call('DEL', KEYS[5])
end
if event and not is_quiet(KEYS[4], ARGV[10]) then
  deliver(KEYS[3], ARGV[11], tonumber(ARGV[12]), live_entry(ARGV[7], ms_text, event, ARGV[2], ARGV[4], data), ms)
end
return {wait_ms}
