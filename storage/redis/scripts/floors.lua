-- Floors: after a fence a process says which numbers it knows to have been given before; the greatest
-- win, so that the seed never numbers below what somebody was told. Where the room was seeded
-- already, its seq is raised above them. Offsets of another epoch are void, so they stay.
-- KEYS: life, floors
-- ARGV: prefix, ttl_ms, then for each room: R, offset, seq...
-- RETURNS: for each room that was seeded below its floor: {R, base, seq, floor}...
local life = redis.call('HGET', KEYS[1], 'id')
local late = {}
for i = 3, #ARGV, 3 do
  local offset, seq = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local room_key = ARGV[1] .. 'room:' .. ARGV[i]
  local room = redis.call('HMGET', room_key, 'epoch', 'seq', 'base')
  local base = tonumber(room[3] or '')
  if room[1] == life and base and seq > base then
    local known = tonumber(room[2])
    redis.call('HSET', room_key, 'base', ARGV[i + 2])
    if seq > known then redis.call('HSET', room_key, 'seq', ARGV[i + 2]) end
    late[#late + 1] = {ARGV[i], base, known, seq}
  end
  local floor = redis.call('HGET', KEYS[2], ARGV[i])
  if floor then
    local known_offset, known_seq = string.match(floor, '^(%d+) (%d+)$')
    offset, seq = math.max(offset, tonumber(known_offset)), math.max(seq, tonumber(known_seq))
  end
  if room[1] ~= life or (base and seq > base) then
    redis.call('HSET', KEYS[2], ARGV[i], string.format('%.0f %.0f', offset, seq))
  end
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return late
