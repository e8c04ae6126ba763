-- Keeps agents, forgets others and tells who reads, as one step.
-- KEYS: the prefix of all keys, in braces so that a cluster keeps them together.
-- ARGV: writer, most entries of the stream, how many agents are kept; for each of these its id,
-- term, capabilities (one a line), facts, status, health; then the ids to forget.
-- Returns id and term of each agent of which a higher term is kept already.
local prefix, writer, bound = KEYS[1], ARGV[1], ARGV[2]
local refused, saved, removed = {}, {}, {}
local at = 4

local function index(id, known, wanted)
  local before = {}
  for name in string.gmatch(known or '', '[^\n]+') do before[name] = true end
  for name in string.gmatch(wanted, '[^\n]+') do
    if before[name] then before[name] = nil
    else redis.call('SADD', prefix .. ':capability:' .. name, id) end
  end
  for name in pairs(before) do redis.call('SREM', prefix .. ':capability:' .. name, id) end
end

for _ = 1, tonumber(ARGV[3]) do
  local id, term = ARGV[at], ARGV[at + 1]
  local key = prefix .. ':agent:' .. id
  local known = redis.call('HMGET', key, 'term', 'capabilities')
  if known[1] and tonumber(known[1]) > tonumber(term) then
    refused[#refused + 1] = id
    refused[#refused + 1] = known[1]
  else
    index(id, known[2] or '', ARGV[at + 2])
    redis.call('HSET', key, 'term', term, 'capabilities', ARGV[at + 2],
      'facts', ARGV[at + 3], 'status', ARGV[at + 4], 'health', ARGV[at + 5])
    redis.call('SADD', prefix .. ':agents', id)
    saved[#saved + 1] = id
  end
  at = at + 6
end

while at <= #ARGV do
  local id = ARGV[at]
  local key = prefix .. ':agent:' .. id
  index(id, redis.call('HGET', key, 'capabilities') or '', '')
  redis.call('ZREM', prefix .. ':leases', id)
  redis.call('SREM', prefix .. ':agents', id)
  if redis.call('DEL', key) == 1 then removed[#removed + 1] = id end
  at = at + 1
end

if #saved + #removed > 0 then
  redis.call('XADD', prefix .. ':changes', 'MAXLEN', '~', bound, '*', 'writer', writer,
    'saved', table.concat(saved, '\n'), 'removed', table.concat(removed, '\n'))
end
return refused
