-- Watch: register the node for a user's own channel (no log, no presence, inboxes only).
-- KEYS: nodes, inbox, rooms_of
-- ARGV: R, node, gen, tag
-- RETURNS: 'OK' | 'LOST'
if redis.call('EXISTS', KEYS[2]) == 0 then return 'LOST' end
local known = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or '0')
redis.call('SADD', KEYS[3], ARGV[4] .. ' ' .. ARGV[1])
if tonumber(ARGV[3]) > known then redis.call('HSET', KEYS[1], ARGV[2], ARGV[3]) end
return 'OK'
