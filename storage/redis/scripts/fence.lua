-- Fence: make sure that the partition's life belongs to this very server. If the stored replication
-- id is another (or none), a new life begins and every room is cold; the loser of a race gets the
-- winner's life.
-- KEYS: life
-- ARGV: new_life_id
-- RETURNS: {life_id, age_ms, 1 if this call began it else 0}
-- include: clock
-- include: life
local life = redis.call('HMGET', KEYS[1], 'id', 'replid', 'at')
local replid, ms = own_replid(), now_ms()
if life[1] and life[2] == replid then return {life[1], ms - tonumber(life[3]), 0} end
-- A full server judges a script by its first write and lets a removal pass: the archiver must get in.
redis.call('HDEL', KEYS[1], 'replid')
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'replid', replid, 'at', ms)
return {ARGV[1], 0, 1}
