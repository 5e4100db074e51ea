-- Archived: after a batch has been committed, delete exactly its entries, raise each room's
-- `archived`, trim its log and, where nothing is left to archive (no marks either), let it expire or,
-- while a node is registered, note that it does not (`settled`).
-- `upto` is given instead of the stream ids by who has read the batch in this very life, from the
-- beginning of the stream: what lies up to there are these entries and no others. In another life an
-- id may be below those of entries that were never read.
-- KEYS: life, archive
-- ARGV: life_id, prefix, log_length, ttl_ms, bytes, entries, upto, ids, then that many stream ids, then for each room: R, offset...
-- RETURNS: number of entries deleted | 'FENCED'
-- include: life
-- include: rest
if not life_holds(KEYS[1], ARGV[1]) then return 'FENCED' end
local prefix, log_length, ttl_ms, ids = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[8])
local deleted = 0
if ARGV[7] ~= '' then
  deleted = redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[7])
end
for i = 9, 8 + ids, 1000 do
  deleted = deleted + redis.call('XDEL', KEYS[2], unpack(ARGV, i, math.min(i + 999, 8 + ids)))
end
-- A repeat deletes nothing and so must not lower the size of the backlog again.
if deleted > 0 then
  local bytes = math.floor(tonumber(ARGV[5]) * deleted / tonumber(ARGV[6]))
  -- Publishing counts by samples, so the sum drifts a little: an empty backlog sets it right.
  local left = redis.call('HINCRBY', KEYS[1], 'bytes', -bytes)
  if left < 0 or redis.call('XLEN', KEYS[2]) == 0 then redis.call('HSET', KEYS[1], 'bytes', 0) end
end
for i = 9 + ids, #ARGV, 2 do
  local R = ARGV[i]
  local room_key, log_key = prefix .. 'room:' .. R, prefix .. 'log:' .. R
  local room = redis.call('HMGET', room_key, 'archived', 'offset', 'marks')
  if room[1] then
    local offset = tonumber(room[2])
    local archived = math.max(tonumber(room[1]), math.min(tonumber(ARGV[i + 1]), offset))
    if archived < offset then
      local last = redis.call('XREVRANGE', log_key, '+', '-', 'COUNT', 1)
      local log_offset = last[1] and tonumber(string.match(last[1][1], '^(%d+)-')) or 0
      if log_offset <= archived then archived = offset end
    end
    local marks = room[3]
    if marks and #redis.call('XRANGE', KEYS[2], marks, marks) == 0 then
      redis.call('HDEL', room_key, 'marks')
      marks = false
    end
    local rests = archived == offset and not marks
    local is_wanted = rests and redis.call('EXISTS', prefix .. 'nodes:' .. R) == 1
    -- What had something to archive had no expiry. Numbers as text, or Redis would print them as floats.
    local had_none = archived ~= tonumber(room[1]) or room[3]
    local archived_text = string.format('%d', archived)
    if is_wanted and had_none then
      redis.call('HSET', room_key, 'archived', archived_text, 'settled', archived_text)
    else
      redis.call('HSET', room_key, 'archived', archived_text)
    end
    local floor = math.min(offset - log_length, archived)
    if floor > 0 then redis.call('XTRIM', log_key, 'MINID', '~', floor + 1) end
    if rests and not is_wanted then expire_room(prefix, R, ttl_ms) end
  end
end
return deleted
