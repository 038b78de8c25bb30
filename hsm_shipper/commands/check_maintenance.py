"""The part of `check` that looks at maintenance: when it is due, how it went, and whether Redis lets it work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import redis

from hsm_shipper.commands.check_probe import OWN, STREAM, lacking, lacking_for, refused
from hsm_shipper.commands.findings import Finding, ok, problem, warning
from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.errors import ConfigError, StateError
from hsm_shipper.state.maintenance_log import RecordedRun, last_runs
from hsm_shipper.stream.connection import connect

_SUBJECT = "maintenance"

# What redis-py's Lock does to its key, on a key beside it that expires should it be left behind; and a look at the
# consumer groups of the stream, where there is one.
_STEPS = (
    ("DEL", OWN),
    ("SET", OWN, "check", "NX", "PX", "60000"),
    ("GET", OWN),
    ("PTTL", OWN),
    ("PEXPIRE", OWN, "60000"),
    ("DEL", OWN),
    ("XLEN", STREAM),
    ("XINFO", "GROUPS", STREAM),
    ("XPENDING", STREAM, "check"),
)
# Without the stream, and without that group of it, which nobody has made.
_EXPECTED = ("no such key", "NOGROUP")


def maintenance_findings(config: Config, mdts: Iterable[str], *, redis_answers: bool) -> Iterator[Finding]:
    """Everything about the maintenance of `mdts`, those on this server."""
    from hsm_shipper.maintenance.due_times import in_words, next_due, trigger_of  # late: 80 ms

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


def _is_late(config: Config, run: RecordedRun) -> bool:
    from hsm_shipper.maintenance.due_times import times_missed, trigger_of

    begun = datetime.fromtimestamp(run.started_at, UTC)
    return times_missed(trigger_of(config, run.mdt), begun, datetime.now(UTC)) > 1


def _allowed(config: Config, mdt: str) -> Iterator[Finding]:
    stream = stream_key(config.redis_stream_prefix, mdt)
    what = f"its lock or the consumer groups of {stream} are refused"
    try:
        with connect(config, stream) as client:
            found = refused(client, stream, _STEPS, by_digest=True)
    except ConfigError:
        return  # the part that asks Redis says it
    except redis.RedisError as error:
        yield problem(_SUBJECT, f"{what}: {error}", lacking_for(error, stream))
        return
    found = [refusal for refusal in found if not str(refusal.error).startswith(_EXPECTED)]
    if found:
        advice = lacking(found) or "look at the server's log"
        yield problem(_SUBJECT, f"{what}: {found[0].command}: {found[0].error}", advice)
    else:
        yield ok(_SUBJECT, "locking is allowed")
