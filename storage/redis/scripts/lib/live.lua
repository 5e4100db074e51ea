-- Why an ephemeral event of a member's may not pass: the same refusals as for a publish. `room` is
-- {epoch, ver, deleted}. A role that was read before the newest announced change is stale.
local function refuse_live(life_key, room_key, life_id, version)
  if redis.call('HGET', life_key, 'id') ~= life_id then return {'FENCED'} end
  local room = redis.call('HMGET', room_key, 'epoch', 'ver', 'deleted')
  if room[1] ~= life_id then return {'COLD'} end
  if room[3] then return {'GONE'} end
  if tonumber(version) < tonumber(room[2]) then return {'STALE', room[2]} end
  return nil
end

-- The entry of an ephemeral event; `origin` is the connection that it is not sent back to, or '/'.
local function live_entry(origin, ms, event, R, user, data)
  return table.concat({origin, 0, 0, ms, event, R, user, 0}, ' ') .. '\n' .. data
end
