-- Entries of a room log above `from` (exclusive), up to `offset`, without what people wrote: only so
-- many, or every reader would cost a whole backlog while the archiver is behind. Readers estimate
-- the rest.
local function read_lag(log_key, from, offset, count_max, bytes_max)
  local lag, bytes = {}, 0
  local first = from + 1
  while first <= offset and #lag < count_max and bytes <= bytes_max do
    local to = math.min(offset, first + 49)
    local chunk = redis.call('XRANGE', log_key, first .. '-0', to .. '-0')
    for i = 1, #chunk do
      local entry = chunk[i][2][2]
      bytes = bytes + #entry
      local content = string.find(entry, ',"content":', 1, true)
      lag[#lag + 1] = content and string.sub(entry, 1, content - 1) .. '}' or entry
    end
    first = to + 1
  end
  return lag
end
