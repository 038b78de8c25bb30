"""The part of `check` that looks at maintenance: when it is due, how it went, and whether Redis lets it work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import redis

from hsm_shipper.config import Config
from hsm_shipper.connection import connect
from hsm_shipper.errors import ConfigError, StateError
from hsm_shipper.findings import Finding, ok, problem, warning
from hsm_shipper.keys import stream_key
from hsm_shipper.runs import Run, last_runs

_SUBJECT = "maintenance"

# What redis-py's Lock does to its key, on a key beside it that expires should it be left behind; and a look at the
# consumer groups of the stream, where there is one.
_PROBE = """
-- KEYS[1] a key of its own in the stream's slot, KEYS[2] the stream
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], 'check', 'NX', 'PX', 60000)
local replies = {
  redis.pcall('GET', KEYS[1]),
  redis.pcall('PTTL', KEYS[1]),
  redis.pcall('PEXPIRE', KEYS[1], 60000),
  redis.pcall('XLEN', KEYS[2]),
}
if redis.call('EXISTS', KEYS[2]) == 1 then
  replies[#replies + 1] = redis.pcall('XINFO', 'GROUPS', KEYS[2])
end
redis.call('DEL', KEYS[1])
for _, reply in ipairs(replies) do
  if type(reply) == 'table' and reply.err then
    return reply
  end
end
return 1
"""


def maintenance_findings(config: Config, mdts: Iterable[str], *, redis_answers: bool) -> Iterator[Finding]:
    """Everything about the maintenance of `mdts`, those on this server."""
    from hsm_shipper.schedule import in_words, next_due, trigger_of  # late: 80 ms

    mdts = sorted(mdts)
    text = in_words(config)
    if config.reconcile_schedule:
        text += f", next {next_due(trigger_of(config, ''), datetime.now(UTC)):%Y-%m-%d %H:%M} UTC"
    yield ok(_SUBJECT, text)
    yield from _past(config, mdts)
    if redis_answers:
        yield from _allowed(config, mdts[0] if mdts else "check")


def _past(config: Config, mdts: list[str]) -> Iterator[Finding]:
    try:
        last = last_runs(config.state_path)
        completed = last_runs(config.state_path, completed=True)
    except StateError as error:
        yield warning(_SUBJECT, error.message, error.hint or "remove it: it is made anew")
        return
    for mdt in mdts:
        run = last.get(mdt)
        if run is not None and run.error is not None:
            yield warning(mdt, f"the last maintenance failed: {run.error}", "see docs/maintenance.md")
        elif mdt in completed and _is_late(config, completed[mdt]):
            begun = datetime.fromtimestamp(completed[mdt].started_at, UTC)
            yield warning(
                mdt,
                f"the last maintenance was on {begun:%Y-%m-%d %H:%M} UTC, and was due more than once since",
                "look for 'maintenance' in `hsm-action-shipper status` and in the log",
            )


def _is_late(config: Config, run: Run) -> bool:
    from hsm_shipper.schedule import times_missed, trigger_of

    begun = datetime.fromtimestamp(run.started_at, UTC)
    return times_missed(trigger_of(config, run.mdt), begun, datetime.now(UTC)) > 1


def _allowed(config: Config, mdt: str) -> Iterator[Finding]:
    stream = stream_key(config.redis_stream_prefix, mdt)
    try:
        with connect(config) as client:
            client.eval(_PROBE, 2, f"{{{stream}}}:check", stream)
    except ConfigError:
        return  # the part that asks Redis says it
    except redis.RedisError as error:
        yield problem(
            _SUBJECT,
            f"its lock or the consumer groups of {stream} are refused: {error}",
            "allow the user @scripting, @stream, EXISTS, GET, SET, DEL, PEXPIRE and PTTL on the keys "
            f"{stream} and {{{stream}}}:*",
        )
    else:
        yield ok(_SUBJECT, "locking is allowed")
