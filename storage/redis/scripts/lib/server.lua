-- What a server says about itself that tells whether its data can have been replaced.
local function own_run()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

-- How often this process was told to follow another server or to stop following. FAILOVER is the third
-- way to become a replica; in a cluster there are others, which are not counted.
local function role_changes()
  local stats = redis.call('INFO', 'commandstats')
  local counts = {}
  for _, name in ipairs({'replicaof', 'slaveof', 'failover'}) do
    counts[#counts + 1] = string.match(stats, 'cmdstat_' .. name .. ':calls=(%d+)') or '0'
  end
  return table.concat(counts, ' ')
end

-- Whether the server may have been made a master beside another that has not noticed: it has followed
-- one, or has the id of a former master, or is in a cluster, where promotions need no such call.
local function may_have_rival(roles)
  return string.find(roles, '[1-9]') ~= nil
      or not string.find(redis.call('INFO', 'replication'), 'master_replid2:0+%s')
      or not string.find(redis.call('INFO', 'cluster'), 'cluster_enabled:0', 1, true)
end

-- A replication id also changes where nothing can be lost: when the first replica attaches, and when the
-- last one was gone for longer than repl-backlog-ttl. Told apart by all of these: the same process (so no
-- restart, whatever the append-only file had), which is a master, has no id of a former master, and was
-- not told to follow another server since the life began (only that replaces data under a running
-- process); not a cluster, where that happens without being told; and some node's lease runs, so the
-- server is under observation. In doubt a new life begins.
local function lost_nothing(run, roles, leases_key, ms)
  if not run or run ~= own_run() or roles ~= role_changes() then return false end
  local replication = redis.call('INFO', 'replication')
  if not string.find(replication, 'role:master', 1, true) then return false end
  if not string.find(replication, 'master_replid2:0+%s') then return false end
  if not string.find(redis.call('INFO', 'cluster'), 'cluster_enabled:0', 1, true) then return false end
  local running = redis.call('ZRANGEBYSCORE', leases_key, string.format('(%d', ms), '+inf', 'LIMIT', 0, 1)
  return running[1] ~= nil
end
