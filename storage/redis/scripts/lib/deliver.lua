-- Hand one entry to the inbox of every interested node.
-- A missing inbox is a node that has died (its expiry is the lease): it is dropped from the room.
-- An error leaves the node registered; its audit finds the gap. An inbox that nobody empties is
-- unlinked, which is the only sign of loss a node may get; the length is looked at in one
-- millisecond of sixteen, since it may overshoot without harm.
local function deliver(nodes_key, inbox_prefix, inbox_max, entry, ms)
  local nodes = redis.call('HKEYS', nodes_key)
  for i = 1, #nodes do
    local inbox = inbox_prefix .. nodes[i]
    local id = redis.pcall('XADD', inbox, 'NOMKSTREAM', '*', 'e', entry)
    if not id then
      redis.call('HDEL', nodes_key, nodes[i])
    elseif ms % 16 == 0 and type(id) == 'string' and redis.call('XLEN', inbox) > inbox_max then
      redis.call('UNLINK', inbox)
    end
  end
end
