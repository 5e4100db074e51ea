-- Heartbeat: renew the node's lease and compare every partition's life with the one it works under.
-- A missing inbox is never created again: events for it may have been dropped.
-- KEYS: inbox, leases, life...
-- ARGV: node, lease_ms, life_id...
-- RETURNS: {'LOST'} | {'OK', position of each life that no longer holds (from 1)...}
-- include: clock
-- include: life
if redis.call('EXISTS', KEYS[1]) == 0 then return {'LOST'} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], now_ms() + ARGV[2], ARGV[1])
local replid = own_replid()
local result = {'OK'}
for i = 3, #KEYS do
  local life = redis.call('HMGET', KEYS[i], 'id', 'replid')
  if life[1] ~= ARGV[i] or life[2] ~= replid then result[#result + 1] = i - 2 end
end
return result
