-- Open a node: create its inbox, once, with the lease as its expiry, and enter it into the leases.
-- KEYS: inbox, leases
-- ARGV: node, lease_ms
-- RETURNS: 1, or 0 if the inbox exists already (a node's id is used once)
-- include: clock
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('XADD', KEYS[1], '*', 'e', '')
redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], now_ms() + ARGV[2], ARGV[1])
return 1
