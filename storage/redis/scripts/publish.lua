-- Publish: append one durable event to a warm room and hand it to every interested node.
-- Every refusal comes before the first write, so the script is done or not done.
-- KEYS: life, room, log, archive, nodes, reads
-- ARGV: life_id, R, event, sender, version, step, data, digest, message_id, reply_to, log_length, inbox_prefix, inbox_max, sent_prefix, window_ms, backlog_events, backlog_bytes
-- RETURNS: {offset, seq, ms} | {'FENCED'} | {'COLD'} | {'GONE'} | {'STALE', version} | {'SENT', packed} | {'NOREF'} | {'FULL'}
-- include: clock
-- include: deliver
-- include: append
-- include: sent
local life = redis.call('HMGET', KEYS[1], 'id', 'bytes')
if life[1] ~= ARGV[1] then return {'FENCED'} end
local room = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'seq', 'archived', 'ver', 'deleted')
if room[1] ~= ARGV[1] then return {'COLD'} end
if room[6] then return {'GONE'} end
if tonumber(ARGV[5]) < tonumber(room[5]) then return {'STALE', room[5]} end
local ms_text = now_text()
local ms = tonumber(ms_text)
local digest = ARGV[8]
local sent, sent_before
if digest ~= '' then
  sent, sent_before = sent_keys(ARGV[14], digest, ms)
  local packed = find_sent(sent, sent_before, digest, ms, tonumber(ARGV[15]))
  if packed then return {'SENT', packed} end
end
if tonumber(ARGV[10]) > tonumber(room[3]) then return {'NOREF'} end
if redis.call('XLEN', KEYS[4]) >= tonumber(ARGV[16])
    or tonumber(life[2] or '0') >= tonumber(ARGV[17]) then
  return {'FULL'}
end
local step = tonumber(ARGV[6])
local keys = {life = KEYS[1], room = KEYS[2], log = KEYS[3], archive = KEYS[4], reads = KEYS[6]}
local offset, seq, entry = append(keys, room, tonumber(ARGV[11]), ARGV[3], ARGV[2], ARGV[4], '0', step, ARGV[7], ms_text)
if step == 1 and ARGV[4] ~= '/' then redis.call('HSET', KEYS[6], ARGV[4], string.format('%d %s', seq, ms_text)) end
if sent then
  remember_sent(sent, digest, string.format('%s %d %d %s', ARGV[9], seq, offset, ms_text))
end
deliver(KEYS[5], ARGV[12], tonumber(ARGV[13]), entry, ms)
return {offset, seq, ms}
