-- Idempotency keys: field = digest of (room, user, client_id), value = '<message_id> <seq> <offset> <ms>'.
-- Hashes by ten minutes (no window is longer, so two of them hold it) and the digest's first 12 bits
-- stay small, which keeps them compact (54 bytes a key measured against 220 to 330 for a key each).
local SENT_BUCKET_MS = 600000

-- The key that a digest has now, and the one that it had ten minutes ago.
local function sent_keys(prefix, digest, ms)
  local high, low = string.byte(digest, 1, 2)
  local bucket, slot = math.floor(ms / SENT_BUCKET_MS), high * 16 + math.floor(low / 16)
  return string.format('%s%d:%d', prefix, bucket, slot), string.format('%s%d:%d', prefix, bucket - 1, slot)
end

local function find_sent(newer, older, digest, ms, window_ms)
  local packed = redis.call('HGET', newer, digest) or redis.call('HGET', older, digest)
  if packed and tonumber(string.match(packed, '(%d+)$')) >= ms - window_ms then return packed end
  return nil
end

local function remember_sent(key, digest, packed)
  redis.call('HSET', key, digest, packed)
  if redis.call('HLEN', key) == 1 then redis.call('PEXPIRE', key, '1200000') end
end
