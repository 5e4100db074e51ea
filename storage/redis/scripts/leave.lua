-- Leave: the node has no connection in the room any more. A join with a newer gen wins, whatever
-- order the two arrive in. `forget` says that no presence of the node is left in its grace.
-- KEYS: nodes, rooms_of
-- ARGV: R, node, gen, tag, forget, ttl_ms
-- RETURNS: 1 if the node is no longer registered, else 0
-- include: rest
local known = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or '0')
if known > tonumber(ARGV[3]) then return 0 end
redis.call('HDEL', KEYS[1], ARGV[2])
if ARGV[5] == '1' then redis.call('SREM', KEYS[2], ARGV[4] .. ' ' .. ARGV[1]) end
rest_without_nodes('parley:{' .. ARGV[4] .. '}:', ARGV[1], ARGV[6])
return 1
