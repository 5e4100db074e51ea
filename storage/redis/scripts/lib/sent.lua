-- Idempotency keys: field = digest of (room, user, client_id), value = '<message_id> <seq> <offset> <ms>'.
-- Hashes by five minutes and the digest's first 12 bits stay small, which keeps them compact
-- (54 bytes a key measured against 220 to 330 for a key of its own).
local SENT_BUCKET_MS = 300000

local function sent_key(prefix, bucket, digest)
  return prefix .. bucket .. ':' .. (string.byte(digest, 1) * 16 + math.floor(string.byte(digest, 2) / 16))
end

local function find_sent(prefix, digest, ms, window_ms)
  local newest = math.floor(ms / SENT_BUCKET_MS)
  for bucket = newest, math.floor((ms - window_ms) / SENT_BUCKET_MS), -1 do
    local packed = redis.call('HGET', sent_key(prefix, bucket, digest), digest)
    if packed then
      local sent_ms = tonumber(string.match(packed, '(%d+)$'))
      if sent_ms >= ms - window_ms then return packed end
      return nil
    end
  end
  return nil
end

local function remember_sent(prefix, digest, packed, sent_ms, window_ms)
  local key = sent_key(prefix, math.floor(sent_ms / SENT_BUCKET_MS), digest)
  redis.call('HSET', key, digest, packed)
  redis.call('PEXPIRE', key, window_ms + SENT_BUCKET_MS)
end
