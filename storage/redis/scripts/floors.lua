-- Floors: after a fence a node says how far it has delivered each of its rooms; the greatest wins,
-- so that the seed never numbers below what somebody has seen.
-- KEYS: floors
-- ARGV: ttl_ms, then for each room: R, offset, seq...
-- RETURNS: 1
for i = 2, #ARGV, 3 do
  local offset, seq = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local floor = redis.call('HGET', KEYS[1], ARGV[i])
  if floor then
    local known_offset, known_seq = string.match(floor, '^(%d+) (%d+)$')
    offset, seq = math.max(offset, tonumber(known_offset)), math.max(seq, tonumber(known_seq))
  end
  redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f %.0f', offset, seq))
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
