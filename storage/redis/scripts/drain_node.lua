-- Drain a node: its presence stays behind until the given time, so that users who reconnect
-- elsewhere are never announced as gone; its inbox ends now.
-- KEYS: inbox, leases
-- ARGV: node, linger_ms
-- RETURNS: 1
-- include: clock
redis.call('UNLINK', KEYS[1])
redis.call('ZADD', KEYS[2], now_ms() + ARGV[2], ARGV[1])
return 1
