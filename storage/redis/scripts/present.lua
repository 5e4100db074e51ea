-- Present: who is online in a room, as the nodes have said it. Bounded: of a larger room only some. The
-- reader leaves out nodes that are not among the living ones.
-- KEYS: presence, leases
-- ARGV: users_max
-- RETURNS: {number of users online, 1 if all of them are given else 0, {living node...}, {user, record...}}
-- include: clock
local online = redis.call('HLEN', KEYS[1])
local page = redis.call('HSCAN', KEYS[1], '0', 'COUNT', ARGV[1])
local living = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now_text(), '+inf')
return {online, page[1] == '0' and 1 or 0, living, page[2]}
