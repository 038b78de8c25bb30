"""The part of `check` that looks at each stream: is it one, and does an earlier shipper of this family write to it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import redis

from hsm_shipper.commands.check_probe import lacking_for
from hsm_shipper.commands.findings import Finding, problem, warning
from hsm_shipper.config import Config
from hsm_shipper.contract.event import decode
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.errors import ConfigError, MalformedEvent
from hsm_shipper.process.durations import in_one_unit
from hsm_shipper.stream.connection import Clients
from hsm_shipper.stream.redis_errors import is_denied, refusal_hint

# One that was stopped longer ago than that is not running.
_LATELY_S = 600.0


def earlier_findings(config: Config, mdts: Iterable[str]) -> Iterator[Finding]:
    """What is wrong with the stream of each of `mdts`: it cannot be used, or its newest entry is another shipper's."""
    try:
        with Clients(config) as clients:
            for mdt in sorted(mdts):
                key = stream_key(config.redis_stream_prefix, mdt)
                yield from _stream(mdt, key, clients.of(key))
    except (ConfigError, redis.RedisError):
        return  # the part that asks Redis says it


def _stream(mdt: str, key: str, client: redis.Redis) -> Iterator[Finding]:
    try:
        age_s = _earlier_entry_age_s(client, key)
    except redis.ResponseError as error:  # that part has tried but one of them
        advice = lacking_for(error, key) if is_denied(error) else refusal_hint(error)
        yield problem(mdt, f"its stream {key} cannot be looked at: {error}", advice)
        return
    if age_s is not None and age_s < _LATELY_S:
        yield warning(
            mdt,
            f"an earlier shipper wrote the newest entry of its stream {in_one_unit(age_s)} ago",
            "stop it before this one starts, and disable its unit: two at once tell changes twice (docs/moving.md)",
        )


def _earlier_entry_age_s(client: redis.Redis, key: str) -> float | None:
    """How old the newest entry is, if its writer names no `host`, as all of ours do."""
    try:
        newest = client.xinfo_stream(key).get("last-entry")
    except redis.ResponseError as error:
        if str(error).startswith("no such key"):
            return None
        raise
    if newest is None:
        return None
    entry_id, fields = newest
    try:
        if decode(fields.get(b"data")).host is not None:
            return None
    except MalformedEvent:
        return None  # nobody's of this family
    return max(0.0, time.time() - int(entry_id.partition(b"-")[0]) / 1000)
