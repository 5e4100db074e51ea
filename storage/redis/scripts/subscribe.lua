-- Subscribe: register the node for the room, count presence, and read the position with the
-- missed tail, in one atomic step: whatever is appended later reaches the node's inbox.
-- KEYS: life, room, log, nodes, presence, reads, inbox, rooms_of, where
-- ARGV: life_id, R, node, gen, user, connections, version, since_epoch, since_offset, lag_from, events_max, bytes_max, tag, quiet_users, inbox_prefix, inbox_max, lag_max
-- RETURNS: {'OK', epoch, offset, seq, archived, online, reason, tail, lag, read_seq, version} | {'FENCED'} | {'COLD'} | {'GONE'} | {'STALE', version} | {'LOST'}
-- include: clock
-- include: life
-- include: deliver
-- include: presence
-- include: lag
if not life_holds(KEYS[1], ARGV[1]) then return {'FENCED'} end
local room = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'seq', 'archived', 'ver', 'deleted')
if room[1] ~= ARGV[1] then return {'COLD'} end
if room[6] then return {'GONE'} end
if tonumber(ARGV[7]) < tonumber(room[5]) then return {'STALE', room[5]} end
if redis.call('EXISTS', KEYS[7]) == 0 then return {'LOST'} end

local R, node, gen, user = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local known = tonumber(redis.call('HGET', KEYS[4], node) or '0')
local ms = now_ms()
redis.call('SADD', KEYS[8], ARGV[13] .. ' ' .. R)
if gen > known then redis.call('HSET', KEYS[4], node, gen) end
if user ~= '/' and set_presence(KEYS[5], KEYS[9], R, user, node, tonumber(ARGV[6]), gen, ms) then
  announce_presence(R, 'presence.joined', user, redis.call('HLEN', KEYS[5]), ms, ms, tonumber(ARGV[14]),
    KEYS[4], ARGV[15], tonumber(ARGV[16]))
end

local offset = tonumber(room[2])
local reason, tail = '', {}
if ARGV[8] ~= '' then
  local since = tonumber(ARGV[9])
  if ARGV[8] ~= room[1] then
    reason = 'epoch'
  elseif since > offset then
    reason = 'ahead'
  elseif offset - since > tonumber(ARGV[11]) then
    local from = (since + 1) .. '-0'
    reason = #redis.call('XRANGE', KEYS[3], from, from) == 0 and 'trimmed' or 'too_large'
  elseif since < offset then
    local bytes, from = 0, since + 1
    while from <= offset and reason == '' do
      local to = math.min(offset, from + 49)
      local chunk = redis.call('XRANGE', KEYS[3], from .. '-0', to .. '-0')
      for i = 1, #chunk do
        local entry = chunk[i][2][2]
        -- What framing adds to an entry (names, stamps) stays below 200 bytes.
        bytes = bytes + #entry + 200
        tail[#tail + 1] = entry
      end
      if bytes > tonumber(ARGV[12]) then
        reason = 'too_large'
      elseif #tail ~= to - since then
        reason = 'trimmed'
      end
      from = to + 1
    end
    if reason ~= '' then tail = {} end
  end
end
-- Entries that PostgreSQL may not have counted.
local lag_from = tonumber(ARGV[10])
local lag = {}
if lag_from >= 0 then
  lag = read_lag(KEYS[3], lag_from, offset, tonumber(ARGV[17]), tonumber(ARGV[12]))
end
local read_seq = redis.call('HGET', KEYS[6], user)
return {'OK', room[1], offset, tonumber(room[3]), tonumber(room[4]), redis.call('HLEN', KEYS[5]),
  reason, tail, lag, tonumber(read_seq and string.match(read_seq, '^%d+') or '-1'), tonumber(room[5])}
