"""Trouble with Redis: which of it passes, when to try again, and what is said about it."""

from __future__ import annotations

import logging
import time

import redis
from redis.backoff import EqualJitterBackoff

from hsm_shipper.contract.acl_commands import LIVE_COMMANDS, READER_COMMANDS
from hsm_shipper.errors import StreamRefused, StreamUnavailable
from hsm_shipper.stream.redis_errors import (
    error_code,
    is_denied,
    own_hint,
    permission_hint,
    reach_hint,
    refusal_hint,
    tls_hint,
)

_DELAYS = EqualJitterBackoff(cap=30.0, base=0.1)
_DOUBLINGS_MAX = 60  # further ones change nothing, and redis-py takes 2 ** 1024 for a number that a float holds

# Error codes (first word of the reply): a script that runs too long, and a blocked client of a server that has just
# become a replica.
_PASSING_CODES = frozenset({"BUSY", "UNBLOCKED"})
# A server that takes no writes for now, which only groups meet: too few replicas in step, as after each failover with
# min-replicas-to-write, a disk that is full, or memory. Nothing has to be done about it where readers are.
_NO_WRITES_NOW = frozenset({"NOREPLICAS", "MISCONF", "OOM"})

logger = logging.getLogger("hsm_tools.consumer")


def passes(error: redis.RedisError) -> bool:
    """Whether trying again may help; what a person must put right does not pass."""
    error = _meant(error)
    if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError):
        return False  # redis-py files them under ConnectionError
    if tls_hint(error) is not None:
        return False
    passing = (
        redis.ConnectionError,  # also: still loading its data, too many clients
        redis.TimeoutError,
        redis.ReadOnlyError,
        redis.exceptions.ClusterDownError,  # also: a replica without its master
        redis.exceptions.TryAgainError,
    )
    return isinstance(error, passing) or error_code(error) in _PASSING_CODES | _NO_WRITES_NOW


def may_be_another_server(reply: object) -> bool:
    """Whether to connect anew before the next command: by the same name a demoted primary's successor may be found."""
    return isinstance(reply, redis.RedisError) and passes(reply)


def refusal(error: redis.RedisError, prefix: str, address: str, commands: str = READER_COMMANDS) -> StreamRefused:
    """What the user is told about an error that does not pass; `commands` are those that an ACL must allow."""
    error = _meant(error)
    tls = tls_hint(error)
    if tls is not None:
        hint = tls
    elif own_hint(error):
        hint = own_hint(error)
    elif isinstance(error, redis.AuthenticationError):
        hint = "give the right user name and password"
    elif is_denied(error):
        beside = f" and {{{prefix}:*}}:heartbeat" if commands == LIVE_COMMANDS else ""
        hint = permission_hint(error, f"{prefix}:*{beside}", commands)
    else:
        hint = "check that this is the right server, port and database"
    return StreamRefused(f"reading the streams {prefix}:* from {address} was refused: {error}", hint)


def _meant(error: redis.RedisError) -> redis.RedisError:
    """`error`, or what redis-py's asyncio makes a ConnectionError of when a Unix socket's first words fail."""
    cause = error.__cause__
    return cause if type(error) is redis.ConnectionError and isinstance(cause, redis.RedisError) else error


def retry_delay_s(tries: int) -> float:
    """How long to wait after `tries` failures in a row: 0.1 s doubling up to 30 s, less a random half."""
    return _DELAYS.compute(min(tries - 1, _DOUBLINGS_MAX))


def one_try_failed(
    error: redis.RedisError, prefix: str, address: str, commands: str = READER_COMMANDS
) -> StreamRefused | StreamUnavailable:
    """What the user is told about trouble that is not waited out."""
    if not passes(error):
        return refusal(error, prefix, address, commands)
    hint = reach_hint(_meant(error), address, "check the address, and that the server is running")
    return StreamUnavailable(f"no answer from Redis at {address}: {error}", hint)


class Outage:
    """A time without Redis: one line when it starts, one when it is over, and growing waits between the tries."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._tries = 0
        self._started_s = 0.0
        self._next_try_s = 0.0

    def failed(self, error: redis.RedisError) -> None:
        """A try failed: wait longer before the next one."""
        now_s = time.monotonic()
        if self._tries == 0:
            self._started_s = now_s
            text = f"no answer from Redis at {self.address} ({error}): trying again until there is one"
            takes_no_writes = error_code(error) in _NO_WRITES_NOW
            hint = refusal_hint(error) if takes_no_writes else reach_hint(_meant(error), self.address, "")
            logger.warning("%s", f"{text}; {hint}" if hint else text)
        self._tries += 1
        self._next_try_s = now_s + retry_delay_s(self._tries)

    @property
    def left_s(self) -> float:
        """Seconds until the next try is due; 0 when it is."""
        return max(0.0, self._next_try_s - time.monotonic()) if self._tries else 0.0

    def ended(self) -> None:
        """A try succeeded."""
        if self._tries:
            away_s = time.monotonic() - self._started_s
            tries = "1 try" if self._tries == 1 else f"{self._tries} tries"
            logger.warning("Redis at %s is back after %s, %.1f s", self.address, tries, away_s)
            self._tries = 0
