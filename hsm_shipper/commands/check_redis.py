"""The part of `check` that asks Redis: is it there, will it keep what it is given, may we write."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast

import redis
import redis.exceptions

from hsm_shipper.commands.check_cluster import cluster_findings
from hsm_shipper.commands.check_probe import OWN, STREAM, lacking, lacking_for, refused
from hsm_shipper.commands.findings import Finding, ok, problem, warning
from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.errors import ConfigError, StreamError
from hsm_shipper.stream.connection import address, connect
from hsm_shipper.stream.keeping import Keeping
from hsm_shipper.stream.redis_errors import is_denied, is_full, reach_hint, refusal_hint, tls_hint
from hsm_shipper.stream.stream import ActionStream

_SUBJECT = "Redis"
_OLDEST_VERSION = (6, 2)
_NEARLY_FULL = 0.9
# So large, a node ends where what the allocator gave for it ends, give or take an entry. Larger ones end at the default
# of 100 entries, somewhere in the middle.
_NODE_BYTES, _LARGEST_NODE_BYTES = 16_384, 32_768
_CLOCK_DIFFERENCE_S = 10.0

# An XADD that adds nothing comes first: a full server refuses it, and would not after another write of the same script.
# The stream itself is only asked to be no longer than it can ever be.
_STEPS = (
    ("XADD", OWN, "NOMKSTREAM", "*", "data", "check"),
    ("DEL", OWN),
    ("SET", OWN, "check", "PX", "60000"),
    ("DEL", OWN),
    ("XADD", OWN, "*", "data", "check"),
    ("XINFO", "STREAM", OWN),
    ("XRANGE", OWN, "-", "+", "COUNT", "1"),
    ("DEL", OWN),
    ("EXISTS", STREAM),
    ("XTRIM", STREAM, "MAXLEN", "9223372036854775807"),
)


def redis_findings(config: Config, mdt: str | None) -> Iterator[Finding]:
    """Everything about the configured Redis; `mdt` is one whose stream can be tried, if there is any."""
    where, key = address(config), stream_key(config.redis_stream_prefix, mdt or "check")
    try:
        client = connect(config, key)
    except ConfigError as error:
        yield problem(_SUBJECT, error.message, error.hint or "correct the configuration")
        return
    with client:
        if (trouble := _no_answer(client, where)) is not None:
            yield trouble
            return
        yield ok(_SUBJECT, f"{where} answers")
        if config.redis_address.is_cluster:
            yield from cluster_findings(config, _SUBJECT, _about)
        else:
            yield from _told(client)
        yield _probe(client, key)
        yield from _kept(client, config, mdt or "check")


def _about(client: redis.Redis, where: str) -> Iterator[Finding]:
    """Everything about one server of a cluster."""
    trouble = _no_answer(client, where)
    if trouble is None:
        yield from _told(client)
    else:
        yield trouble


def _no_answer(client: redis.Redis, where: str) -> Finding | None:
    try:
        client.ping()
    except redis.exceptions.NoPermissionError:
        return None
    except redis.RedisError as error:
        return unreachable(where, error)
    return None


def unreachable(where: str, error: redis.RedisError) -> Finding:
    """Why a first command failed."""
    tls = tls_hint(error)
    if tls is not None:
        return problem(_SUBJECT, f"no TLS with {where}: {str(error).rstrip('.')}", tls)
    if isinstance(error, redis.AuthenticationError):
        return problem(_SUBJECT, f"{where} refuses us: {error}", "look at redis_username and redis_password_file")
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return problem(_SUBJECT, f"{where} is loading its data: {error}", "check again when it is done")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return problem(
            _SUBJECT,
            f"cannot reach {where}: {str(error).rstrip('.')}",
            reach_hint(error, where, "start it, or look at redis_host and redis_port"),
        )
    return problem(_SUBJECT, f"{where} refuses us: {error}", refusal_hint(error))


def _told(client: redis.Redis) -> Iterator[Finding]:
    """What the server tells of itself, as far as it lets us ask."""
    try:
        info = client.info()
    except redis.RedisError as error:
        yield warning(
            _SUBJECT,
            f"INFO is refused ({error}): version, persistence and eviction are not known",
            "allow this user INFO, or look at them yourself",
        )
        return
    yield version(info)
    yield from clock(info, time.time())
    yield persistence(info, _setting(client, "save"))
    yield from eviction(info)
    yield packing(_setting(client, "stream-node-max-bytes"), _setting(client, "stream-node-max-entries"))
    if info.get("role") != "master":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        yield problem(_SUBJECT, f"it is a replica of {primary}", "name the primary in redis_host")


def _setting(client: redis.Redis, name: str) -> str | None:
    """What CONFIG says of it; None if the server does not tell."""
    try:
        return cast(dict[str, str], client.config_get(name)).get(name)
    except redis.RedisError:
        return None


def version(info: Mapping[str, Any]) -> Finding:
    """Whether the server is new enough; Valkey and others tell which Redis they equal."""
    told = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in told.split(".")[:2] if part.isdecimal())
    if len(numbers) < 2:
        return warning(_SUBJECT, f"version {told!r} is not understood", "6.2 or later is needed")
    if numbers < _OLDEST_VERSION:
        return problem(_SUBJECT, f"version {told}", "6.2 or later is needed")
    valkey = info.get("valkey_version")
    return ok(_SUBJECT, f"Valkey {valkey} (as Redis {told})" if valkey else f"version {told}")


def clock(info: Mapping[str, Any], now: float) -> Iterator[Finding]:
    """Whether Redis' clock and ours, `now` in seconds since the epoch, agree; nothing where it does not tell."""
    told_us = info.get("server_time_usec")
    if told_us is None or abs(ahead_s := now - told_us / 1e6) <= _CLOCK_DIFFERENCE_S:
        return
    how = "ahead of" if ahead_s > 0 else "behind"
    yield warning(
        _SUBJECT,
        f"the clock of this server is {abs(ahead_s):,.0f} s {how} that of Redis",
        "set right the one that is wrong (NTP): ages and alerts need both",
    )


def persistence(info: Mapping[str, Any], snapshots: str | None) -> Finding:
    """Whether events outlive a restart of the server; `snapshots` as CONFIG's `save`, None if it is not told."""
    advice = "set `appendonly yes`"
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status") == "err":
            return problem(_SUBJECT, "it cannot write its append-only file, and so refuses writes", "look at its disk")
        return ok(_SUBJECT, "persistence: append-only file")
    if info.get("rdb_last_bgsave_status") == "err":
        return problem(_SUBJECT, "its last snapshot failed, and so it may refuse writes", "look at its disk and log")
    if snapshots:
        return ok(_SUBJECT, f"persistence: snapshots only (save {snapshots}); a crash loses what came since the last")
    if snapshots is None:
        return warning(_SUBJECT, "persistence: no append-only file, and CONFIG is refused", f"{advice}, or snapshots")
    return warning(_SUBJECT, "persistence: none, a restart loses every event", advice)


def eviction(info: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the server may throw streams away, or is about to be full."""
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = str(info.get("maxmemory_policy", "unknown"))
    advice = "set `maxmemory-policy noeviction`"
    text = f"maxmemory {f'{limit:,} bytes' if limit else 'not set'}, policy {policy}"
    if policy.startswith("allkeys-"):
        made = problem if limit else warning
        yield made(_SUBJECT, f"{text}: whole streams are thrown away when memory is short", advice)
    elif policy.startswith("volatile-"):
        # Streams do not expire and stay; heartbeats and the maintenance lock do expire.
        yield warning(_SUBJECT, f"{text}: heartbeats and locks are thrown away when memory is short", advice)
    else:
        yield ok(_SUBJECT, text)
    if limit and used >= limit * _NEARLY_FULL:
        made = problem if used >= limit else warning
        yield made(
            _SUBJECT, f"{used / limit:.0%} of maxmemory is in use", "raise maxmemory: when full it refuses events"
        )


def packing(node_bytes: str | None, node_entries: str | None) -> Finding:
    """How many entries the server packs into a node of a stream: any way works, some need less memory.

    A 0 is no limit.
    """
    if node_bytes is None or node_entries is None:
        return ok(_SUBJECT, "how it packs streams is not told (CONFIG is refused)")
    most, entries = int(node_bytes) or math.inf, int(node_entries)
    is_dense = most >= _NODE_BYTES and (entries == 0 or most <= _LARGEST_NODE_BYTES)
    advice = "" if is_dense else f"with `stream-node-max-bytes {_NODE_BYTES}` streams take some 5 % less memory"
    return ok(_SUBJECT, f"stream-node-max-bytes {node_bytes}", advice)


def _probe(client: redis.Redis, key: str) -> Finding:
    """Whether scripts and the writes of the shipper are allowed, on the keys that it uses."""
    try:
        refusals = refused(client, key, _STEPS)
    except redis.RedisError as error:
        return problem(_SUBJECT, f"a script that writes is refused for {key}: {error}", _advice(error, key))
    if not refusals:
        return ok(_SUBJECT, "scripts and writes are allowed")
    first = refusals[0]
    if is_full(first.error):
        return problem(
            _SUBJECT,
            f"it is full (maxmemory) and refuses events: {first.error}",
            "raise maxmemory, or have the streams trimmed: hsm-action-shipper maintain",
        )
    advice = lacking(refusals) or _advice(first.error, key)
    return problem(_SUBJECT, f"a script that writes is refused for {key}: {first.command}: {first.error}", advice)


def _kept(client: redis.Redis, config: Config, mdt: str) -> Iterator[Finding]:
    """Whether a write is kept as is asked for, tried."""
    keeping = Keeping.configured(config)
    if keeping is None:
        return
    try:
        ActionStream(client, stream_key(config.redis_stream_prefix, mdt), address(config), keeping).confirm_kept()
    except StreamError as error:
        yield problem(_SUBJECT, error.message, error.hint)
    else:
        yield ok(_SUBJECT, f"a write is kept {keeping} within {keeping.timeout_s:g} s")


def _advice(error: redis.RedisError, key: str) -> str:
    if is_denied(error):
        return lacking_for(error, key)
    if isinstance(error, redis.exceptions.ReadOnlyError):
        return "name the primary in redis_host"
    return refusal_hint(error)
