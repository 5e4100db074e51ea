-- Reap a dead node: up to `rooms_max` of its rooms lose its registration and its presence, and users
-- who are nowhere else are announced as gone. Atomic a call, so a reaper may die at any time.
-- KEYS: leases, rooms_of, inbox
-- ARGV: node, rooms_max, quiet_users, inbox_prefix, inbox_max, force
-- RETURNS: rooms left to do, or -1 if the node's lease has not ended
-- include: clock
-- include: deliver
-- include: presence
local node = ARGV[1]
local ms = now_ms()
local lease = redis.call('ZSCORE', KEYS[1], node)
if lease and tonumber(lease) > ms and ARGV[6] ~= '1' then return -1 end
redis.call('UNLINK', KEYS[3])
local members = redis.call('SRANDMEMBER', KEYS[2], ARGV[2])
for i = 1, #members do
  local tag, R = string.match(members[i], '^(%S+) (%S+)$')
  local prefix = 'parley:{' .. tag .. '}:'
  local nodes_key, presence_key = prefix .. 'nodes:' .. R, prefix .. 'presence:' .. R
  redis.call('HDEL', nodes_key, node)
  local epoch = redis.call('HGET', prefix .. 'room:' .. R, 'epoch') or '/'
  local users = redis.call('HKEYS', presence_key)
  for j = 1, #users do
    local nodes = read_presence(presence_key, users[j])
    if nodes and nodes[node] and drop_presence(presence_key, users[j], nodes, node) then
      local online = redis.call('HLEN', presence_key)
      if online < tonumber(ARGV[3]) then
        local entry = presence_entry(epoch, R, 'presence.left', users[j], online, ms)
        deliver(nodes_key, ARGV[4], tonumber(ARGV[5]), entry, ms)
      end
    end
  end
  redis.call('SREM', KEYS[2], members[i])
end
local left = redis.call('SCARD', KEYS[2])
if left == 0 then redis.call('ZREM', KEYS[1], node) end
return left
