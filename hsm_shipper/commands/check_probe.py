"""Does to a Redis what the shipper does there, on a key of its own, and tells what of it is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import redis

from hsm_shipper.contract.acl_commands import SHIPPER_COMMANDS
from hsm_shipper.stream.redis_errors import is_denied, permission_hint

OWN, STREAM = "KEYS[1]", "KEYS[2]"
"""Stand for the key of the probe, in the stream's slot, and for the stream."""

Step = Sequence[str]

# What is left behind is nothing: before anything is made, DEL has been seen to work.
_SCRIPT = """
-- KEYS[1] a key of its own in the stream's slot, KEYS[2] the stream
-- ARGV    commands, each followed by ''; the names of the keys in them stand for the keys
-- Returns {command, error} of each that failed
local failed, words = {}, {}
for _, word in ipairs(ARGV) do
  if word ~= '' then
    words[#words + 1] = word == 'KEYS[1]' and KEYS[1] or word == 'KEYS[2]' and KEYS[2] or word
  else
    local reply = redis.pcall(unpack(words))
    if type(reply) == 'table' and reply.err then
      local sub = words[1] == 'XINFO' and '|' .. words[2] or ''
      failed[#failed + 1] = {words[1] .. sub, reply.err}
      if words[1] == 'DEL' then
        return failed
      end
    end
    words = {}
  end
end
return failed
"""


class Refusal(NamedTuple):
    """A command that failed, as an ACL names it, and why."""

    command: str
    error: redis.RedisError


def refused(client: redis.Redis, stream: str, steps: Iterable[Step], *, by_digest: bool = False) -> list[Refusal]:
    """Take the steps in a script; returns those that failed. Raises `redis.RedisError` if the script may not run.

    With `by_digest` the script is loaded first, and then run by its digest.
    """
    keys = (f"{{{stream}}}:check", stream)
    arguments = [word for step in steps for word in (*step, "")]
    if by_digest:
        reply = client.evalsha(client.script_load(_SCRIPT), len(keys), *keys, *arguments)
    else:
        reply = client.eval(_SCRIPT, len(keys), *keys, *arguments)
    return [
        Refusal(command.decode().lower(), _error(text.decode(errors="replace")))
        for command, text in cast("list[tuple[bytes, bytes]]", reply)
    ]


def lacking(refusals: Iterable[Refusal]) -> str | None:
    """What to allow the user; None if it is not for a lack of permissions."""
    commands = [f"+{command}" for command, error in refusals if is_denied(error)]
    if not commands:
        return None
    return f"allow this Redis user {' '.join(dict.fromkeys(commands))} (docs/permissions.md has the whole list)"


def lacking_for(error: redis.RedisError, stream: str) -> str:
    """The same where the script may not run at all."""
    return permission_hint(error, f"{stream} and {{{stream}}}:*", SHIPPER_COMMANDS)


def _error(text: str) -> redis.RedisError:
    """The error that redis-py would make of it; an error in a table has its code before the text, or none."""
    code, _, rest = text.partition(" ")
    known: dict[str, type[redis.RedisError]] = {
        "OOM": redis.exceptions.OutOfMemoryError,
        "NOPERM": redis.exceptions.NoPermissionError,
        "READONLY": redis.exceptions.ReadOnlyError,
    }
    return known[code](rest) if code in known else redis.ResponseError(text.removeprefix("ERR "))
