-- Change: append one event about a message that was read before, unless something that it rests on
-- has happened to the message since: then it is read again, and nothing is written.
-- The events since are looked at in the log itself, so there is nothing to keep per message.
-- KEYS: life, room, log, archive, nodes, reads
-- ARGV: life_id, R, event, sender, version, data, since, seq_mark, events, own, kind, spare, lag_max, log_length, inbox_prefix, inbox_max, backlog_events, backlog_bytes
-- RETURNS: {offset, seq, ms} | {'FENCED'} | {'COLD'} | {'GONE'} | {'STALE', version} | {'RACED'} | {'FULL'}
-- include: clock
-- include: deliver
-- include: append
local function ends_with(text, tail)
  return tail ~= '' and string.sub(text, -#tail) == tail
end

local life = redis.call('HMGET', KEYS[1], 'id', 'bytes')
if life[1] ~= ARGV[1] then return {'FENCED'} end
local room = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'seq', 'archived', 'ver', 'deleted')
if room[1] ~= ARGV[1] then return {'COLD'} end
if room[6] then return {'GONE'} end
if tonumber(ARGV[5]) < tonumber(room[5]) then return {'STALE', room[5]} end

local since = tonumber(ARGV[7])
local passed = tonumber(room[2]) - since
if passed < 0 or passed > tonumber(ARGV[13]) then return {'RACED'} end
if passed > 0 then
  local entries = redis.call('XRANGE', KEYS[3], (since + 1) .. '-0', '+')
  if #entries ~= passed then return {'RACED'} end
  local added = 0
  for i = 1, passed do
    local event, data = string.match(entries[i][2][2], '^%S+ %S+ %S+ %S+ (%S+) [^\n]*\n(.*)$')
    if event ~= 'message.created' and string.find(data, ARGV[8], 1, true) then
      if string.find(ARGV[9], ' ' .. event .. ' ', 1, true) or ends_with(data, ARGV[10]) then
        return {'RACED'}
      end
      if event == 'reaction.removed' and ends_with(data, ARGV[11]) then return {'RACED'} end
      if event == 'reaction.added' then added = added + 1 end
    end
  end
  if added > tonumber(ARGV[12]) then return {'RACED'} end
end

if redis.call('XLEN', KEYS[4]) >= tonumber(ARGV[17])
    or tonumber(life[2] or '0') >= tonumber(ARGV[18]) then
  return {'FULL'}
end
local ms = now_text()
local keys = {life = KEYS[1], room = KEYS[2], log = KEYS[3], archive = KEYS[4], reads = KEYS[6]}
local tail = table.concat({ARGV[3], ARGV[2], ARGV[4], '0'}, ' ') .. '\n' .. ARGV[6]
local offset, seq = next_place(room, 0)
local entry = append(keys, room, tonumber(ARGV[14]), offset, string.format('%d', offset), seq, tail, ms)
local at = tonumber(ms)
deliver(KEYS[5], ARGV[15], tonumber(ARGV[16]), entry, at)
return {offset, tonumber(seq), at}
