-- Hand out many events in one call. A node whose name ends in '+' takes several in one entry (fields
-- `e`, each an event), so they are collected in `outbound` and leave together in `send_out`, at the end
-- of the call: the node is woken once, and its inbox grows once. Others get each by itself.
-- include: deliver
local function hand_out(outbound, nodes_key, inbox_prefix, inbox_max, entry, ms)
  local nodes = redis.call('HKEYS', nodes_key)
  for i = 1, #nodes do
    local node = nodes[i]
    local mine = outbound[node]
    if mine then
      local count = #mine.fields
      mine.fields[count + 1], mine.fields[count + 2] = 'e', entry
      mine.rooms[#mine.rooms + 1] = nodes_key
    elseif string.byte(node, -1) == 43 then
      outbound[node] = {fields = {'e', entry}, rooms = {nodes_key}}
    elseif not send(inbox_prefix .. node, inbox_max, ms, 'e', entry) then
      redis.call('HDEL', nodes_key, node)
    end
  end
end

local function send_out(outbound, inbox_prefix, inbox_max, ms)
  for node, mine in pairs(outbound) do
    if not send(inbox_prefix .. node, inbox_max, ms, unpack(mine.fields)) then
      for i = 1, #mine.rooms do redis.call('HDEL', mine.rooms[i], node) end
    end
  end
end
