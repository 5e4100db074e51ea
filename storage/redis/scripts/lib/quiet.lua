-- A room is quiet while more than quiet_users users are online in it: it sends the count now and then
-- instead of naming who comes, leaves, types or reads. Everything that asks, asks here.
local function is_quiet(presence_key, quiet_users)
  return redis.call('HLEN', presence_key) > tonumber(quiet_users)
end
