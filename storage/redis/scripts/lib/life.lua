-- The life of a partition: which run of this very Redis the numbering belongs to.
-- A replication id changes whenever a server may have lost writes (restart, promotion), so a
-- stored id that is not the server's own means: nothing numbered before may be trusted.
local function own_replid()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end

local function life_holds(life_key, life_id)
  local life = redis.call('HMGET', life_key, 'id', 'replid')
  return life[1] == life_id and life[2] == own_replid()
end
