-- Publish: append durable events to warm rooms and hand each to every interested node. Events that
-- were asked for together come in one call, of any partitions; each is done or refused by itself, as
-- if it had come alone, in the order given. Of each, every refusal comes before the first write.
-- `limits` is packed: log_length, inbox_prefix, inbox_max, window_ms, backlog_events, backlog_bytes.
-- `event` is packed: place of its life, sender, version as text, step, digest, the bucket in which the
-- caller knows that the digest's hash expires, message_id, reply_to, entry from the event's name on.
-- Only what the server would answer to any write now (it may not write, it has no memory) fails the
-- whole call, before the first write.
-- KEYS: then for each life: life, archive..., then for each event: room, log, nodes, reads...
-- ARGV: limits, lives, then for each life: life_id..., then for each event: event...
-- RETURNS: lines: ms, then for each event 'offset seq' | 'FENCED' | 'COLD' | 'GONE' | 'STALE version' | 'SENT packed' | 'NOREF' | 'FULL' | 'ERR text'
-- include: clock
-- include: outbound
-- include: append
-- include: sent
local log_length, inbox_prefix, inbox_max, window_ms, backlog_events, backlog_bytes = cmsgpack.unpack(ARGV[1])
local ms_text = now_text()
local ms = tonumber(ms_text)
local since = ms - window_ms
local bucket, sent_now, sent_before = sent_buckets(ms)
local outbound = {}
local partitions = {}
local lives = tonumber(ARGV[2])
for i = 1, lives do
  local life_key, archive = KEYS[2 * i - 1], KEYS[2 * i]
  local life = redis.call('HMGET', life_key, 'id', 'bytes')
  -- Also the `keys` of `append`, which each event completes.
  partitions[i] = {
    id = ARGV[i + 2], holds = life[1] == ARGV[i + 2], bytes = tonumber(life[2] or '0'),
    backlog = redis.call('XLEN', archive), prefix = string.sub(life_key, 1, -5), life = life_key,
    archive = archive, room = '', log = '', reads = '',
  }
end

local function publish(at, place, sender, version, step, digest, expires, message_id, reply_to, tail)
  local partition = partitions[place]
  if not partition.holds then return 'FENCED' end
  local room_key = KEYS[at]
  local room = redis.call('HMGET', room_key, 'epoch', 'offset', 'seq', 'archived', 'ver', 'deleted', 'settled')
  if room[1] ~= partition.id then return 'COLD' end
  if room[6] then return 'GONE' end
  if version ~= room[5] and tonumber(version) < tonumber(room[5]) then return 'STALE ' .. room[5] end
  local sent
  if digest ~= '' then
    local prefix, slot = partition.prefix, sent_slot(digest)
    sent = prefix .. sent_now .. slot
    local packed = find_sent(prefix .. sent_before .. slot, digest, since)
    if packed then return 'SENT ' .. packed end
  end
  local refusal
  if reply_to > 0 and reply_to > tonumber(room[3]) then
    refusal = 'NOREF'
  elseif partition.backlog >= backlog_events or partition.bytes >= backlog_bytes then
    refusal = 'FULL'
  end
  if refusal then
    local packed = sent and find_sent(sent, digest, since)
    return packed and 'SENT ' .. packed or refusal
  end
  local offset, seq_text = next_place(room, step)
  local offset_text = string.format('%d', offset)
  if sent then
    -- The last refusal and the first write in one: it writes only if there was no answer.
    local packed = remember_sent(sent, digest, message_id .. ' ' .. seq_text .. ' ' .. offset_text .. ' ' .. ms_text, since)
    if packed then return 'SENT ' .. packed end
    if expires ~= bucket then expire_sent(sent) end
  end
  partition.room, partition.log, partition.reads = room_key, KEYS[at + 1], KEYS[at + 3]
  local done, entry = pcall(append, partition, room, log_length, offset, offset_text, seq_text, tail, ms_text)
  if not done then
    if sent then redis.call('HDEL', sent, digest) end
    error(entry, 0)
  end
  partition.backlog = partition.backlog + 1
  if step == 1 and sender ~= '/' then redis.call('HSET', partition.reads, sender, seq_text .. ' ' .. ms_text) end
  hand_out(outbound, KEYS[at + 2], inbox_prefix, inbox_max, entry, ms)
  return offset_text .. ' ' .. seq_text
end

-- What a script may be told before its first write, whatever it writes.
local everywhere = {READONLY = true, OOM = true, MISCONF = true, NOREPLICAS = true}
local lines = {ms_text}
for i = lives + 3, #ARGV do
  local at = 2 * lives + 4 * (i - lives - 3) + 1
  local done, line = pcall(publish, at, cmsgpack.unpack(ARGV[i]))
  if not done then
    local text = type(line) == 'table' and line.err or tostring(line)
    if everywhere[string.match(text, '%-?(%u+) ')] then error(line, 0) end
    line = 'ERR ' .. string.gsub(text, '\n', ' ')
  end
  lines[#lines + 1] = line
end
send_out(outbound, inbox_prefix, inbox_max, ms)
return table.concat(lines, '\n')
