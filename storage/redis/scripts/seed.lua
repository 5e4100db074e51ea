-- Seed: warm a cold room with the numbering that PostgreSQL has decided under a row lock.
-- A room that is warm already in this life stays as it is, but for its seq: while it has numbered no
-- message yet, a seed that knows of higher ones lets it skip them. If Redis knows higher numbers than the
-- seed was given, nothing is written and the caller asks PostgreSQL again. Marks that wait for the
-- archive (`marks`) still keep the room from expiring. `base` is the seq above which this life numbers.
-- Marks that are there already (`old_reads`) may be older than PostgreSQL's: `mark` asks for those once.
-- KEYS: life, room, log, reads, floors
-- ARGV: R, life_id, offset, seq, archived, version, deleted, ttl_ms, prefix, then for each idempotency key: digest, packed, sent_ms...
-- RETURNS: 'OK' | 'FENCED' | 'AHEAD'
-- include: life
-- include: sent
if not life_holds(KEYS[1], ARGV[2]) then return 'FENCED' end
local room = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'seq', 'marks', 'base')
local offset, seq, archived = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if room[1] == ARGV[2] then
  if room[3] == room[5] and seq > tonumber(room[5]) then
    redis.call('HSET', KEYS[2], 'base', ARGV[4], 'seq', ARGV[4])
  end
  return 'OK'
end
if tonumber(room[2] or '0') > offset or tonumber(room[3] or '0') > seq then return 'AHEAD' end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
local log_offset = last[1] and tonumber(string.match(last[1][1], '^(%d+)-')) or 0
if log_offset > offset then return 'AHEAD' end
local floor = redis.call('HGET', KEYS[5], ARGV[1])
if floor and tonumber(string.match(floor, ' (%d+)$')) > seq then return 'AHEAD' end
-- The log holds all that is not archived: if it ends at or below `archived`, everything is, and what
-- lies between `archived` and its beginning was lost before an earlier seed.
if log_offset <= archived then
  archived = offset
else
  local first = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)
  archived = math.max(archived, tonumber(string.match(first[1][1], '^(%d+)-')) - 1)
end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'epoch', ARGV[2], 'offset', offset, 'seq', seq, 'archived', archived, 'ver', ARGV[6], 'base', seq)
if floor then redis.call('HDEL', KEYS[5], ARGV[1]) end
if ARGV[7] == '1' then redis.call('HSET', KEYS[2], 'deleted', 1) end
if room[4] then redis.call('HSET', KEYS[2], 'marks', room[4]) end
if redis.call('EXISTS', KEYS[4]) == 1 then redis.call('HSET', KEYS[2], 'old_reads', 1) end
if archived == offset and not room[4] then
  redis.call('PEXPIRE', KEYS[2], ARGV[8])
  redis.call('PEXPIRE', KEYS[3], ARGV[8])
  redis.call('PEXPIRE', KEYS[4], ARGV[8])
end
for i = 10, #ARGV, 3 do
  local _, bucket = sent_buckets(tonumber(ARGV[i + 2]))
  local key = ARGV[9] .. bucket .. sent_slot(ARGV[i])
  remember_sent(key, ARGV[i], ARGV[i + 1], math.huge)
  if redis.call('HLEN', key) == 1 then expire_sent(key) end
end
return 'OK'
