-- What an unread count needs beside PostgreSQL: the newest seq, the events that may not be archived
-- yet, and how far users have read. The epoch is not asked: seqs are valid in every life.
-- KEYS: room, log, reads
-- ARGV: events_max, bytes_max, then users...
-- RETURNS: {offset, seq, lag, marks} with {} for a mark that is not known | {-1, -1, {}, marks} for a room that is not in Redis
-- include: lag
local room = redis.call('HMGET', KEYS[1], 'offset', 'seq', 'archived')
local users = {}
for i = 3, #ARGV do users[#users + 1] = ARGV[i] end
local marks = #users > 0 and redis.call('HMGET', KEYS[3], unpack(users)) or {}
if not room[1] then return {-1, -1, {}, marks} end
local offset = tonumber(room[1])
local lag = read_lag(KEYS[2], tonumber(room[3]), offset, tonumber(ARGV[1]), tonumber(ARGV[2]))
return {offset, tonumber(room[2]), lag, marks}
