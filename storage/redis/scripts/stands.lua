-- How some rooms stand and the stamps of some projects, by which whoever keeps a page tells whether
-- anything that it shows has moved. All of one instant; no life is asked, since an epoch says it.
-- KEYS: then stamps..., then rooms...
-- ARGV: stamps
-- RETURNS: for each stamp: value | false, then for each room: {epoch, offset, ver}, false for what is not there...
local stamps = tonumber(ARGV[1])
local found = {}
for i = 1, stamps do found[i] = redis.call('GET', KEYS[i]) end
for i = stamps + 1, #KEYS do found[i] = redis.call('HMGET', KEYS[i], 'epoch', 'offset', 'ver') end
return found
