-- Milliseconds since 1970 by the server's clock; below 1e14, so Lua prints it without exponent.
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
