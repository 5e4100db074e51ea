-- Hand entries to the inbox of every interested node.
-- A missing inbox is a node that has died (its expiry is the lease): it is dropped from the room.
-- An error leaves the node registered; its audit finds the gap. An inbox that nobody empties is
-- unlinked, which is the only sign of loss a node may get; the length is looked at in one
-- millisecond of sixteen, since it may overshoot without harm. An entry may hold many events, so where
-- the present one does, fewer entries are enough.
-- What is in an inbox goes neither into the append-only file nor to replicas: a server that was started
-- or promoted is another life, in which each node opens another inbox and brings its rooms over.
local function send(inbox, inbox_max, ms, ...)
  redis.set_repl(redis.REPL_NONE)
  local id = redis.pcall('XADD', inbox, 'NOMKSTREAM', '*', ...)
  redis.set_repl(redis.REPL_ALL)
  if ms % 16 == 0 and type(id) == 'string' then
    local weight = math.max(1, select('#', ...) / 16)
    if redis.call('XLEN', inbox) * weight > inbox_max then redis.call('UNLINK', inbox) end
  end
  return id
end

local function deliver(nodes_key, inbox_prefix, inbox_max, entry, ms)
  local nodes = redis.call('HKEYS', nodes_key)
  for i = 1, #nodes do
    if not send(inbox_prefix .. nodes[i], inbox_max, ms, 'e', entry) then
      redis.call('HDEL', nodes_key, nodes[i])
    end
  end
end
