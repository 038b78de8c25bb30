-- Trim a stream up to an entry, a bounded number of entries at a time, if it is not behind what the caller has read.
-- KEYS[1]  the stream
-- ARGV[1]  entries below this id go
-- ARGV[2]  the id that the caller has folded up to, as two numbers: milliseconds,
-- ARGV[3]  and sequence
-- Returns  the number of entries removed, or -1 where the stream ends before the fold: it is another one by now.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return -1
end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    local ms, seq = string.match(info[i + 1], '^(%d+)-(%d+)$')
    ms, seq = tonumber(ms), tonumber(seq)
    if ms < tonumber(ARGV[2]) or (ms == tonumber(ARGV[2]) and seq < tonumber(ARGV[3])) then
      return -1
    end
  end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[1])
