-- Find message: in which room a message was created, if its event still waits for PostgreSQL.
-- Looks at one part of a partition's archive stream; the caller goes on behind it.
-- KEYS: archive
-- ARGV: first, last, count, mark
-- RETURNS: {entries looked at, id of the last one, R or ''}
local entries = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local last = ''
for i = 1, #entries do
  local entry = entries[i][2][2]
  last = entries[i][1]
  if string.find(entry, ARGV[4], 1, true) then
    return {i, last, string.match(entry, '^%S+ %S+ %S+ %S+ message%.created (%S+) ') or ''}
  end
end
return {#entries, last, ''}
