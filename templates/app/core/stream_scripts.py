"""The steps on a Redis stream that must be one: each is a script, so that a crash cannot fall in between.

Redis runs a script as a whole, and its clock is the only clock. All scripts run on Redis 6.2 and newer.
`PARKED` is the name under which entries wait for their retry: they stay in the group's pending list, so
nothing is lost when a worker dies, and no worker's lease has to cover them.

Fencing: an entry is owned by (consumer, delivery count). A worker that was taken over, or taken over by
itself after a pause, holds an old count, and PARK, BURY and RENEW then change nothing.
"""

from __future__ import annotations

PARKED = "~parked"

# KEYS: stream, retries. ARGV: group, consumer, id, count, count to go on with, delay in ms.
PARK = """
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if #held == 0 or held[1][4] ~= tonumber(ARGV[4]) then return 0 end
local t = redis.call('TIME')
local due = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[6]
redis.call('ZADD', KEYS[2], string.format('%.0f', due), ARGV[3])
redis.call('XCLAIM', KEYS[1], ARGV[1], '~parked', 0, ARGV[3], 'RETRYCOUNT', ARGV[5], 'JUSTID')
return 1
"""

# KEYS: stream, retries. ARGV: group, consumer, how many. Returns {id, fields, count} of entries that are due.
DUE = """
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[3])) do
  redis.call('ZREM', KEYS[2], id)
  local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id)[1]
  if entry then
    local held = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)
    out[#out + 1] = {id, entry[2], held[1][4]}
  else
    redis.call('XACK', KEYS[1], ARGV[1], id)
  end
end
return out
"""

# Takes over entries whose consumer has not renewed them for a lease. It looks at each consumer's own entries,
# never at the parked ones: what waits for a retry cannot hide what needs a new worker.
# An entry with `suspect` or more deliveries may be what killed its worker; only as many as asked are taken.
# Parked entries without a due time (lost with an older copy of the data) are made due.
# KEYS: stream, retries. ARGV: group, consumer, lease in ms, how many, suspect from, how many suspects.
TAKE_OVER = """
local out = {}
local room, suspects = tonumber(ARGV[4]), tonumber(ARGV[6])
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #info, 2 do consumer[info[i]] = info[i + 1] end
  if consumer['pending'] > 0 then
    local held = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1000, consumer['name'])
    for _, p in ipairs(held) do
      local id, suspect = p[1], p[4] >= tonumber(ARGV[5])
      if consumer['name'] == '~parked' then
        if not redis.call('ZSCORE', KEYS[2], id) then redis.call('ZADD', KEYS[2], 0, id) end
      elseif (suspect and suspects > 0) or (not suspect and room > 0) then
        if suspect then suspects = suspects - 1 else room = room - 1 end
        local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], id)[1]
        if entry then
          out[#out + 1] = {id, entry[2], p[4] + 1}
        else
          redis.call('XACK', KEYS[1], ARGV[1], id)
        end
      end
    end
  end
end
return out
"""

# An entry that nobody holds is nobody else's: Redis has forgotten it, and our handler is the last to know
# of it. Only what another one holds is called off.
# KEYS: stream. ARGV: group, consumer, then id and count in turn. Returns the ids that are somebody else's.
RENEW = """
local lost = {}
for i = 3, #ARGV, 2 do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
  if held and held[2] == ARGV[2] and held[4] == tonumber(ARGV[i + 1]) then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
  elseif held then
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
"""

# KEYS: stream, dead letters. ARGV: group, consumer, id, count, then the fields of the dead letter.
BURY = """
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if #held == 0 or held[1][4] ~= tonumber(ARGV[4]) then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 5))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
return 1
"""

# Hands back all that the consumer still holds, its delivery not counted, and removes the consumer.
# KEYS: stream, retries. ARGV: group, consumer.
LEAVE = """
local held = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 10000, ARGV[2])
for _, p in ipairs(held) do
  redis.call('ZADD', KEYS[2], 0, p[1])
  redis.call('XCLAIM', KEYS[1], ARGV[1], '~parked', 0, p[1], 'RETRYCOUNT', math.max(0, p[4] - 1), 'JUSTID')
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return #held
"""

# Trims what every group has read and acknowledged, whole blocks at a time. A group that nobody reads any more
# keeps everything: better a full disk that someone notices than a message that nobody misses.
# KEYS: stream. Returns how many entries went.
TRIM = """
local function less(a, b)
  local am, as = string.match(a, '(%d+)-(%d+)')
  local bm, bs = string.match(b, '(%d+)-(%d+)')
  if am == bm then return tonumber(as) < tonumber(bs) end
  return tonumber(am) < tonumber(bm)
end
local floor = nil
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #info, 2 do group[info[i]] = info[i + 1] end
  local first = group['last-delivered-id']
  if group['pending'] > 0 then first = redis.call('XPENDING', KEYS[1], group['name'])[2] end
  if floor == nil or less(first, floor) then floor = first end
end
if floor == nil then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', floor)
"""

# Removes consumers that hold nothing and were not heard of for a long time. XGROUP DELCONSUMER would drop
# what a consumer still holds, so the check and the removal are one step.
# KEYS: stream. ARGV: group, consumer, idle time in ms. Returns the names.
REAP = """
local gone = {}
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #info, 2 do consumer[info[i]] = info[i + 1] end
  local name = consumer['name']
  if consumer['pending'] == 0 and consumer['idle'] > tonumber(ARGV[3])
      and name ~= ARGV[2] and name ~= '~parked' then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
    gone[#gone + 1] = name
  end
end
return gone
"""
