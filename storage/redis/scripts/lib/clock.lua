-- Milliseconds since 1970 by the server's clock, as decimal text and as a number.
local function now_text()
  local t = redis.call('TIME')
  return string.format('%d%03d', t[1], t[2] / 1000)
end

local function now_ms()
  return tonumber(now_text())
end
