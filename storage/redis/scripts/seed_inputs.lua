-- What Redis and the nodes still know of a cold room's numbering, for the seed in PostgreSQL.
-- KEYS: life, room, log, floors
-- ARGV: life_id, R
-- RETURNS: {'OK', life_age_ms, offset, seq, 1 if rooms that come over to the life skip numbers, else 0} | {'FENCED'}
-- include: clock
-- include: life
if not life_holds(KEYS[1], ARGV[1]) then return {'FENCED'} end
local room = redis.call('HMGET', KEYS[2], 'offset', 'seq')
local offset, seq = tonumber(room[1] or '0'), tonumber(room[2] or '0')
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
if last[1] then
  local log_offset, log_seq = string.match(last[1][2][2], '^%S+ (%d+) (%d+) ')
  offset, seq = math.max(offset, tonumber(log_offset)), math.max(seq, tonumber(log_seq))
end
local floor = redis.call('HGET', KEYS[4], ARGV[2])
if floor then
  local floor_offset, floor_seq = string.match(floor, '^(%d+) (%d+)$')
  offset, seq = math.max(offset, tonumber(floor_offset)), math.max(seq, tonumber(floor_seq))
end
local life = redis.call('HMGET', KEYS[1], 'at', 'rival')
return {'OK', now_ms() - tonumber(life[1]), offset, seq, life[2] == '1' and 1 or 0}
