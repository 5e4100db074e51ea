-- Mark: move a user's read or delivered mark, never back and never beyond the newest message, and
-- hand the move to the archive. The room hears of it at most once a user and `told_ms`: what is
-- held back is told by a later call that marks nothing (read and delivered 0), for which the caller
-- is given the time to wait.
-- Where Redis has no mark of the user, the caller must bring what PostgreSQL knows (the floors). So it
-- must once for each user where marks are from before this life (`old_reads` of the room): Redis may have
-- lost newer ones that PostgreSQL has. `//user` of `reads` is the life for which this was done; what was
-- held back and may be older than what the room has heard is then told no more.
-- While a move waits in the archive, `marks` of the room names its entry and nothing expires.
-- KEYS: life, room, log, archive, nodes, presence, reads, told
-- ARGV: life_id, R, user, version, read, delivered, read_floor, delivered_floor, told_ms, told_ttl_ms, quiet_users, inbox_prefix, inbox_max, backlog_events, backlog_bytes
-- RETURNS: {read, delivered, seq, moved 0/1, told 0/1, wait_ms} | {'FENCED'} | {'COLD'} | {'GONE'} | {'STALE', version} | {'UNKNOWN'} | {'FULL'}
-- include: clock
-- include: deliver
-- include: quiet
local life = redis.call('HMGET', KEYS[1], 'id', 'bytes')
if life[1] ~= ARGV[1] then return {'FENCED'} end
local room = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'seq', 'archived', 'ver', 'deleted', 'old_reads')
if room[1] ~= ARGV[1] then return {'COLD'} end
if room[6] then return {'GONE'} end
if tonumber(ARGV[4]) < tonumber(room[5]) then return {'STALE', room[5]} end

local R, user, seq = ARGV[2], ARGV[3], tonumber(room[3])
local floor_read, floor_delivered = tonumber(ARGV[7]), tonumber(ARGV[8])
local known = redis.call('HMGET', KEYS[7], user, '/' .. user, '//' .. user)
local is_sure = known[1] and (not room[7] or known[3] == ARGV[1])
if not is_sure and floor_read < 0 then return {'UNKNOWN'} end
local function seq_of(mark) return mark and tonumber(string.match(mark, '^%d+')) or 0 end
local read, delivered = seq_of(known[1]), seq_of(known[2])
if not is_sure then
  read, delivered = math.max(read, floor_read), math.max(delivered, floor_delivered)
end
delivered = math.max(read, delivered)
local new_read, new_delivered = math.min(tonumber(ARGV[5]), seq), math.min(tonumber(ARGV[6]), seq)
local reads = new_read > read
local moved = reads or new_delivered > delivered
if moved and (redis.call('XLEN', KEYS[4]) >= tonumber(ARGV[14])
    or tonumber(life[2] or '0') >= tonumber(ARGV[15])) then
  return {'FULL'}
end

if known[1] and not is_sure then
  redis.call('HSET', KEYS[7], '//' .. user, ARGV[1])
  if floor_read > seq_of(known[1]) then
    redis.call('HSET', KEYS[7], user, string.format('%d 0', read))
    redis.call('HDEL', KEYS[8], user)
  end
  if delivered > seq_of(known[2]) then
    redis.call('HSET', KEYS[7], '/' .. user, string.format('%d 0', delivered))
    redis.call('HDEL', KEYS[8], '/' .. user)
  end
end

local ms_text = now_text()
local ms = tonumber(ms_text)
local function entry_of(event, marked, at)
  local text = string.format('%d', marked)
  return table.concat({'/', 0, text, at, event, R, user, 0}, ' ')
    .. '\n{"user":"' .. user .. '","seq":' .. text .. '}'
end
if moved then
  local entry = reads and entry_of('receipt.read', new_read, ms_text)
    or entry_of('receipt.delivered', new_delivered, ms_text)
  local id = redis.call('XADD', KEYS[4], '*', 'e', entry)
  redis.call('HSET', KEYS[2], 'marks', id)
  redis.call('HINCRBY', KEYS[1], 'bytes', #entry)
  if room[4] == room[2] then
    redis.call('PERSIST', KEYS[2])
    redis.call('PERSIST', KEYS[3])
    redis.call('PERSIST', KEYS[7])
  end
  if reads then
    read, delivered = new_read, math.max(delivered, new_read)
    redis.call('HSET', KEYS[7], user, string.format('%d %s', read, ms_text))
  else
    delivered = new_delivered
    if not known[1] then redis.call('HSET', KEYS[7], user, string.format('%d 0', read)) end
  end
  redis.call('HSET', KEYS[7], '/' .. user, string.format('%d %s', delivered, ms_text))
end

-- `told`: when and what the room heard last, and the newest that it should hear and since when.
local told_ms = tonumber(ARGV[9])
local told, wait = 0, 0
local function tell(field, event, marked)
  local state = redis.call('HGET', KEYS[8], field)
  if not state and not marked then return false end
  local at, heard, newest, since = string.match(state or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
  at, heard, newest = tonumber(at), tonumber(heard), tonumber(newest)
  if marked and marked > newest then newest, since = marked, ms_text end
  if newest <= heard then return false end
  local left = math.min(told_ms, at + told_ms - ms)
  if left <= 0 then
    if not is_quiet(KEYS[6], ARGV[11]) then
      deliver(KEYS[5], ARGV[12], tonumber(ARGV[13]), entry_of(event, newest, since), ms)
    end
    at, heard = ms, newest
  else
    wait = wait == 0 and left or math.min(wait, left)
  end
  redis.call('HSET', KEYS[8], field, string.format('%.0f %d %d %s', at, heard, newest, since))
  redis.call('PEXPIRE', KEYS[8], ARGV[10])
  return left <= 0
end
if tell(user, 'receipt.read', reads and new_read or nil) then told = 1 end
tell('/' .. user, 'receipt.delivered', moved and not reads and new_delivered or nil)
return {read, delivered, seq, moved and 1 or 0, told, wait}
