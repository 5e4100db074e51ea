-- Reap a dead node: up to `rooms_max` of its rooms lose its registration and its presence, and users
-- who are nowhere else are announced as gone, as of the end of its lease. Atomic a call, so a reaper
-- may die at any time. Rooms of many users end a call early: it looks at each of them.
-- KEYS: leases, rooms_of, inbox
-- ARGV: node, rooms_max, quiet_users, inbox_prefix, inbox_max, force, users_max, ttl_ms
-- RETURNS: rooms left to do, or -1 if the node's lease has not ended
-- include: clock
-- include: deliver
-- include: presence
-- include: rest
local node = ARGV[1]
local ms = now_ms()
local lease = tonumber(redis.call('ZSCORE', KEYS[1], node) or ms)
if lease > ms and ARGV[6] ~= '1' then return -1 end
redis.call('UNLINK', KEYS[3])
local members = redis.call('SRANDMEMBER', KEYS[2], ARGV[2])
local seen = 0
for i = 1, #members do
  if seen > tonumber(ARGV[7]) then break end
  local tag, R = string.match(members[i], '^(%S+) (%S+)$')
  local prefix = 'parley:{' .. tag .. '}:'
  local nodes_key, presence_key = prefix .. 'nodes:' .. R, prefix .. 'presence:' .. R
  local where = prefix .. 'where:' .. string.match(R, '^[^/]+') .. '//'
  redis.call('HDEL', nodes_key, node)
  rest_without_nodes(prefix, R, ARGV[8])
  local users = redis.call('HKEYS', presence_key)
  seen = seen + #users
  for j = 1, #users do
    local nodes = read_presence(presence_key, users[j])
    if nodes and nodes[node] then
      -- Who was in its grace when the node died left then.
      local left_at = nodes[node][1] == 0 and nodes[node][4] or math.min(lease, ms)
      if drop_presence(presence_key, where .. users[j], R, users[j], nodes, node) then
        announce_presence(R, 'presence.left', users[j], redis.call('HLEN', presence_key), left_at, ms,
          tonumber(ARGV[3]), nodes_key, ARGV[4], tonumber(ARGV[5]))
      end
    end
  end
  redis.call('SREM', KEYS[2], members[i])
end
local left = redis.call('SCARD', KEYS[2])
if left == 0 then redis.call('ZREM', KEYS[1], node) end
return left
