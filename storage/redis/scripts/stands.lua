-- How some rooms stand, the stamps of their projects and the lives of their partitions, by which
-- whoever keeps a page tells whether anything that it shows has moved. All of one instant. A room that
-- is there has its life in its epoch; one that is not may have come, been archived and been lost.
-- KEYS: then stamps..., then lives..., then rooms...
-- ARGV: stamps, lives
-- RETURNS: for each stamp: value | false, then for each life: its id | false, then for each room: {epoch, offset, ver}, false for what is not there...
local stamps, lives = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = {}
for i = 1, stamps do found[i] = redis.call('GET', KEYS[i]) end
for i = stamps + 1, stamps + lives do found[i] = redis.call('HGET', KEYS[i], 'id') end
for i = stamps + lives + 1, #KEYS do
  found[i] = redis.call('HMGET', KEYS[i], 'epoch', 'offset', 'ver')
end
return found
