-- Lives: which partitions have another life than the caller works under; for processes without a node.
-- KEYS: life...
-- ARGV: life_id...
-- RETURNS: position of each life that no longer holds (from 1)...
-- include: life
local replid = own_replid()
local result = {}
for i = 1, #KEYS do
  local life = redis.call('HMGET', KEYS[i], 'id', 'replid')
  if life[1] ~= ARGV[i] or life[2] ~= replid then result[#result + 1] = i end
end
return result
