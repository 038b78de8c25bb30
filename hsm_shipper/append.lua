-- Compare-and-append: add entries only if the stream is still exactly where the caller's batch was computed from.
-- KEYS[1]   the stream
-- ARGV[1]   the last-generated id that the caller knows ('0-0' for no stream)
-- ARGV[2]   the id of the newest entry that the caller knows, '' for none
-- ARGV[3]   sha1 of that entry's fields and values, joined by NUL
-- ARGV[4]   '1' if the caller knows of live actions: their entries are never trimmed, so some entry must be left
-- ARGV[5..] values of the field 'data', one entry each; without any, this only compares
-- Returns   {1, id of the last entry, ids of the added ones}, or {0, last-generated id, newest entry's id, its sha1}
--           ('' for none) where the stream is elsewhere; then nothing was added.
local last, newest, digest = '0-0', '', ''
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last = info[i + 1]
    elseif info[i] == 'last-entry' and info[i + 1] then
      newest = info[i + 1][1]
      digest = redis.sha1hex(table.concat(info[i + 1][2], '\0'))
    end
  end
end
local contradicted = newest ~= ARGV[2] or digest ~= ARGV[3]
if newest == '' and ARGV[4] ~= '1' then
  contradicted = false -- trimmed to nothing: that says nothing about what was appended before
end
if last ~= ARGV[1] or contradicted then
  return {0, last, newest, digest}
end
local added = {}
for i = 5, #ARGV do
  last = redis.call('XADD', KEYS[1], '*', 'data', ARGV[i])
  added[#added + 1] = last
end
return {1, last, added}
