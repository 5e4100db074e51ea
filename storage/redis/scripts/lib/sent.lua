-- Idempotency keys: field = digest of (room, user, client_id), value = '<message_id> <seq> <offset> <ms>'.
-- Hashes by ten minutes (no window is longer, so two of them hold it) and the digest's first 12 bits
-- stay small, which keeps them compact (54 bytes a key measured against 220 to 330 for a key each).
local SENT_BUCKET_MS = 600000

-- The bucket of now, and the beginning of the keys of now and of ten minutes ago, behind the
-- partition's prefix; what follows is a digest's slot.
local function sent_buckets(ms)
  local bucket = math.floor(ms / SENT_BUCKET_MS)
  return bucket, string.format('sent:%d:', bucket), string.format('sent:%d:', bucket - 1)
end

local function sent_slot(digest)
  local high, low = string.byte(digest, 1, 2)
  return string.format('%d', high * 16 + math.floor(low / 16))
end

-- What was answered before, if that was after `since`.
local function find_sent(key, digest, since)
  local packed = redis.call('HGET', key, digest)
  if packed and tonumber(string.match(packed, '(%d+)$')) >= since then return packed end
  return nil
end

-- Remembers an answer, unless one was given after `since`, which is returned then. Whoever creates the
-- hash must let it expire.
local function remember_sent(key, digest, packed, since)
  if redis.call('HSETNX', key, digest, packed) == 0 then
    local before = find_sent(key, digest, since)
    if before then return before end
    redis.call('HSET', key, digest, packed)
  end
  return nil
end

local function expire_sent(key)
  redis.call('PEXPIRE', key, '1200000')
end
