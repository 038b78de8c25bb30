-- Compare-and-append: add entries only if the stream is still exactly where the caller's batch was computed from.
-- KEYS[1]   the stream
-- ARGV[1]   the last-generated id that the caller knows ('0-0' for no stream)
-- ARGV[2]   the id of the newest entry that the caller knows, '' for none
-- ARGV[3]   sha1 of that entry's fields and values, joined by NUL
-- ARGV[4]   the id of the oldest entry that the caller knows, '' for none
-- ARGV[5]   the number of entries that the caller knows, '' if it does not
-- ARGV[6]   the max-deleted-entry-id that the caller knows, '' if it does not
-- ARGV[7..] values of the field 'data', one entry each; without any, this only compares
-- Returns   {1 or 0, last-generated id, newest entry's id, its sha1, oldest entry's id, number of entries,
--           max-deleted-entry-id, ids of the added ones}: the stream before anything was added, '' for what is not
--           there or not told. 0: it is elsewhere, and nothing was added.
if #ARGV == 6 then
  -- Removes nothing, but is a write: a server that has become a replica says so, also where there is nothing to append.
  redis.call('XTRIM', KEYS[1], 'MAXLEN', '9223372036854775807')
end
local last, newest, digest, first, length, deleted = '0-0', '', '', '', 0, ''
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    local name, value = info[i], info[i + 1]
    if name == 'last-generated-id' then
      last = value
    elseif name == 'length' then
      length = value
    elseif name == 'max-deleted-entry-id' then
      deleted = value
    elseif name == 'first-entry' and value then
      first = value[1]
    elseif name == 'last-entry' and value then
      newest = value[1]
      digest = redis.sha1hex(table.concat(value[2], '\0'))
    end
  end
end
-- A stream trimmed to nothing says nothing about its newest entry. Whether it may be trimmed to there, the caller knows.
local moved = last ~= ARGV[1] or (newest ~= '' and (newest ~= ARGV[2] or digest ~= ARGV[3]))
local entries_gone = ARGV[5] ~= '' and first == ARGV[4] and length ~= tonumber(ARGV[5])
local entries_deleted = ARGV[6] ~= '' and deleted ~= '' and deleted ~= ARGV[6]
if moved or entries_gone or entries_deleted then
  return {0, last, newest, digest, first, length, deleted, {}}
end
local added = {}
for i = 7, #ARGV do
  added[#added + 1] = redis.call('XADD', KEYS[1], '*', 'data', ARGV[i])
end
return {1, last, newest, digest, first, length, deleted, added}
