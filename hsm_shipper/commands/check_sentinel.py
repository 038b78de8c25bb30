"""The part of `check` that asks each Sentinel: does it answer, and do they agree which server is the primary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import redis

from hsm_shipper.commands.findings import Finding, ok, problem, warning
from hsm_shipper.config import Config
from hsm_shipper.contract.redis_address import Node
from hsm_shipper.errors import ConfigError
from hsm_shipper.stream.connection import client_kwargs, sentinel_finder
from hsm_shipper.stream.sentinel import told_by_each

_SUBJECT = "Sentinels"


def sentinel_findings(config: Config) -> Iterator[Finding]:
    """Nothing where no Sentinels are configured."""
    try:
        finder = sentinel_finder(config, client_kwargs(config))
    except ConfigError:
        return  # the part that asks Redis says it
    if finder is not None:
        yield from judge_sentinels(told_by_each(finder), config.redis_address.service)


def judge_sentinels(told: Mapping[Node, Node | redis.RedisError], service: str) -> Iterator[Finding]:
    """What follows from what each of them said: where it names the primary, or why it does not."""
    named = {sentinel: answer for sentinel, answer in told.items() if isinstance(answer, Node)}
    primaries = sorted({str(primary) for primary in named.values()})
    if len(primaries) > 1:
        by = ", ".join(f"{sentinel} names {primary}" for sentinel, primary in named.items())
        advice = "during a failover that passes; else look at their logs, and at their `sentinel monitor` lines"
        yield problem(_SUBJECT, f"they do not agree on the primary of {service!r}: {by}", advice)
    elif primaries:
        text = f"{len(named)} of {len(told)} name {primaries[0]} as the primary of {service!r}"
        yield ok(_SUBJECT, text)
    for sentinel, answer in told.items():
        if isinstance(answer, redis.RedisError):
            made = warning if named else problem
            yield made(_SUBJECT, str(answer).rstrip("."), getattr(answer, "hint", "") or f"look at {sentinel}")
