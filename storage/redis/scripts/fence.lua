-- Fence: make sure that the partition's life belongs to this very server and to what it holds. If the
-- stored replication id is another (or none), a new life begins and every room is cold; the loser of
-- a race gets the winner's life. Where the server provably lost nothing (see `lost_nothing`), the
-- life takes over its new replication id instead. A life that may have a rival (another master that goes
-- on under the life before), or that finds nothing (what only a stopped node could report was given),
-- says so: rooms skip numbers when they come over to it.
-- `leases` is no key of the call: in a cluster it may be of another shard, and is not read there.
-- KEYS: life
-- ARGV: new_life_id, leases
-- RETURNS: {life_id, age_ms, 1 if this call began it, 2 if it took over another id, else 0}
-- include: clock
-- include: life
-- include: server
local life = redis.call('HMGET', KEYS[1], 'id', 'replid', 'at', 'run', 'roles')
local replid, ms = own_replid(), now_ms()
-- A full server judges a script by its first write and lets a removal pass: the archiver must get in.
if life[1] and life[2] == replid then
  if not life[4] then
    redis.call('HDEL', KEYS[1], 'run')
    redis.call('HSET', KEYS[1], 'run', own_run(), 'roles', role_changes())
  end
  return {life[1], ms - tonumber(life[3]), 0}
end
local is_whole = life[2] and lost_nothing(life[4], life[5], ARGV[2], ms)
redis.call('HDEL', KEYS[1], 'replid')
if is_whole then
  redis.call('HSET', KEYS[1], 'replid', replid)
  return {life[1], ms - tonumber(life[3]), 2}
end
local roles = role_changes()
local skips = not life[1] or may_have_rival(roles)
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'replid', replid, 'at', ms, 'run', own_run(), 'roles', roles,
  'rival', skips and '1' or '0')
return {ARGV[1], 0, 1}
