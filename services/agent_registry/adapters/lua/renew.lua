-- Notes that agents were heard of now, by the clock of the server: those of the replicas differ.
-- KEYS: the prefix of all keys. ARGV: ids.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
for at = 1, #ARGV do redis.call('ZADD', KEYS[1] .. ':leases', now_ms, ARGV[at]) end
return #ARGV
