"""Sentinel: the server of a service is looked up anew whenever a connection is made.

What is asked is written once, as a generator of questions, and driven by blocking connections here and by those of
asyncio in the tools. As https://redis.io/docs/latest/develop/reference/sentinel-clients/ asks of a client, the first
Sentinel that answers is believed, the server that it names is asked for its own role, and that Sentinel is the first to
be asked the next time. redis-py's own Sentinel client does not tell why it found nothing, takes a Sentinel that wants a
password for one that is down, and does not ask for the role.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import redis
import redis.exceptions

from hsm_shipper.contract.redis_address import Node, RedisAddress, announced, unfit_label
from hsm_shipper.contract.stream_ids import text_of
from hsm_shipper.stream.questions import Question, answered

# Sentinels are near and do little: one that takes longer is down, and there are others.
SENTINEL_TIMEOUT_S = 2.0

_WANTS_PASSWORD = "the Sentinels have users of their own: set redis_sentinel_username and redis_sentinel_password_file"
_LACKS = "allow this user of the Sentinels +sentinel|get-master-addr-by-name and +sentinel|replicas"
_NO_ROLE = "allow this Redis user +role: a server that is named by a Sentinel is asked for it (docs/permissions.md)"
# Flags of a replica that a Sentinel cannot reach.
_DOWN = ("s_down", "o_down", "disconnected")


class SentinelUnavailable(redis.ConnectionError):
    """No Sentinel answers, or the server that they name does not, or is not what they say: this may pass."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class SentinelRefused(redis.ResponseError):
    """Sentinels or the server refuse us, or do not know the service: that is for a person to put right."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


Questions: TypeAlias = Generator[Question, Any, list[Node]]


class SentinelFinder:
    """Finds the servers of the service that `address` names; one for all connections of a client, of any thread.

    `read_from` is `primary`, or `replica` for those who only read.
    `sentinel_kwargs` are redis-py's arguments for a client of a Sentinel, without host and port.
    """

    def __init__(self, address: RedisAddress, read_from: str, sentinel_kwargs: Mapping[str, Any]) -> None:
        self._address = address
        self._service = address.service
        self.sentinels = address.nodes
        """The first to be asked first."""
        self.read_from = read_from
        self.sentinel_kwargs = sentinel_kwargs
        self.connected_to: Node | None = None
        """The server that the newest connection was made to."""
        self.on_replica: Callable[[Node, bool], None] = lambda _node, _is_linked: None
        """Called with every connection to a replica, and whether that is connected to its primary."""

    def candidates(self) -> Questions:
        """Where to connect, the best first. Raises `SentinelUnavailable` or `SentinelRefused`."""
        failures: dict[Node, redis.RedisError] = {}
        for sentinel in self.sentinels:
            try:
                found = yield Question(sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))
                replicas = []
                if found is not None and self.read_from == "replica":
                    replicas = yield Question(sentinel, ("SENTINEL", "REPLICAS", self._service))
            except redis.RedisError as error:
                failures[sentinel] = error
                continue
            if found is None:
                failures[sentinel] = redis.ResponseError(f"it knows no service {self._service!r}")
                continue
            self.sentinels = (sentinel, *(other for other in self.sentinels if other != sentinel))
            return self._in_order(self._primary(*found), replicas)
        raise self._nothing_found(failures)

    def find(self) -> list[Node]:
        """The candidates, asked for by a blocking client for each question."""

        def ask(question: Question) -> Any:
            with redis.Redis(*question.node, **self.sentinel_kwargs) as client:
                return client.execute_command(*question.command)

        return answered(self.candidates(), ask)

    def alone(self, sentinel: Node) -> SentinelFinder:
        """One that asks but this Sentinel."""
        return SentinelFinder(replace(self._address, nodes=(sentinel,)), self.read_from, self.sentinel_kwargs)

    def _primary(self, host: bytes, port: bytes) -> Node:
        try:
            return announced(host, port)
        except ValueError as error:
            told = f"the Sentinels name for {self._service!r} a server that nobody can connect to: {error}"
            hint = "look at replica-announce-ip of the primary, and at `sentinel monitor` in their configuration"
            raise SentinelRefused(told, hint) from None

    def _in_order(self, primary: Node, replicas: list[Any]) -> list[Node]:
        """Replicas in step, then the primary, then replicas that have lost it: their data is old, and says how old.

        Of those in step the one that was read from before comes first: another may be some events behind it.
        """
        told = [
            {_text(name): _text(value) for name, value in zip(one[::2], one[1::2], strict=True)} for one in replicas
        ]
        up = [one for one in told if _is_up(one)]
        random.shuffle(up)
        in_step = [_node_of(one) for one in up if one["master-link-status"] == "ok"]
        in_step.sort(key=lambda node: node != self.connected_to)
        lost = [_node_of(one) for one in up if one["master-link-status"] != "ok"]
        return [*in_step, primary, *lost]

    def check_role(self, node: Node, role: Any) -> None:
        """Raise unless the server at `node` may be used, as it answers to ROLE, or with that error, itself."""
        where = f"{node}, which the Sentinels name for {self._service!r},"
        if isinstance(role, redis.RedisError):
            raise SentinelRefused(f"{where} does not tell its role: {role}", _NO_ROLE) from role
        kind = text_of(role[0])
        if kind == "master":
            return
        hint = "a failover may be under way; if it lasts, look at the Sentinels' logs"
        if self.read_from == "primary":
            raise SentinelUnavailable(f"{where} is no primary, it says that it is a {kind}", hint)
        if kind != "slave" or role[4] < 0:  # its offset: nothing was copied yet, and it would seem empty
            raise SentinelUnavailable(f"{where} has not copied its primary yet", hint)
        self.on_replica(node, text_of(role[3]) == "connected")

    def no_answer(self, node: Node, error: redis.RedisError) -> redis.RedisError:
        """What to raise where the server at `node` cannot be used. The next time another Sentinel is asked first.

        One that is cut off from the others goes on naming the primary of before.
        """
        self.sentinels = (*self.sentinels[1:], self.sentinels[0])
        if type(error) not in (redis.ConnectionError, redis.TimeoutError):
            return error  # it says itself what is wrong: it is loading its data, it wants a password
        text = f"{str(error).rstrip('.')} ({node} is what the Sentinels name for {self._service!r})"
        hint = "it may be down, and a failover under way; can it be reached from here by that very address?"
        unavailable = SentinelUnavailable(text, hint)
        unavailable.__cause__ = error
        return unavailable

    def _nothing_found(self, failures: Mapping[Node, redis.RedisError]) -> redis.RedisError:
        told = ", ".join(f"{sentinel}: {str(error).rstrip('.')}" for sentinel, error in failures.items())
        answers = [error for error in failures.values() if _is_answer(error)]
        if not answers:
            hint = "are the Sentinels up, and are those their hosts and ports (26379 unless said otherwise)?"
            trouble: redis.RedisError = SentinelUnavailable(f"no Sentinel answers ({told})", hint)
            trouble.__cause__ = next(iter(failures.values()))
            return trouble
        if any(isinstance(error, redis.AuthenticationError) for error in answers):
            return SentinelRefused(f"the Sentinels refuse us ({told})", _WANTS_PASSWORD)
        if any(isinstance(error, redis.exceptions.NoPermissionError) for error in answers):
            return SentinelRefused(f"the Sentinels refuse us ({told})", _LACKS)
        hint = "the service is the name behind `sentinel monitor` in their configuration; is that port a Sentinel's?"
        return SentinelRefused(f"no Sentinel knows the service {self._service!r} ({told})", hint)


class _SentinelConnection:
    """Put before a connection class of redis-py: it connects to a server that the Sentinels name."""

    def __init__(self, *, finder: SentinelFinder, **kwargs: Any) -> None:
        self._finder = finder
        super().__init__(**kwargs)

    def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        """What redis-py does whenever there is no connection: in `connect`, and where one is lost in use."""
        connection: Any = self  # redis-py's connections are but half typed
        if connection.is_connected:
            return
        failure: redis.RedisError | None = None
        for node in self._finder.find():
            connection.host, connection.port = node
            try:
                super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
                self._finder.check_role(node, _role(connection))
            except (redis.ConnectionError, redis.TimeoutError) as error:
                connection.disconnect()
                if isinstance(error, redis.AuthenticationError):
                    raise  # a person has to put that right, and another server would only hide it
                failure = failure or self._finder.no_answer(node, error)
            except BaseException:
                connection.disconnect()
                raise
            else:
                self._finder.connected_to = node
                return
        assert failure is not None, "there is one candidate at least"
        raise failure


class _PlainConnection(_SentinelConnection, redis.Connection):
    pass


class _TlsConnection(_SentinelConnection, redis.SSLConnection):
    pass


def find_by(finder: SentinelFinder, client: redis.Redis) -> None:
    """Have all connections of `client` go where `finder` says: with TLS if that is how it was made."""
    pool = client.connection_pool
    pool.connection_class = _TlsConnection if pool.connection_class is redis.SSLConnection else _PlainConnection
    pool.connection_kwargs["finder"] = finder


def told_by_each(finder: SentinelFinder) -> dict[Node, Node | redis.RedisError]:
    """By Sentinel, the primary that it names, or why it does not."""
    told: dict[Node, Node | redis.RedisError] = {}
    for sentinel in finder.sentinels:
        try:
            told[sentinel] = finder.alone(sentinel).find()[0]
        except redis.RedisError as error:
            told[sentinel] = error
    return told


def _role(connection: Any) -> Any:
    connection.send_command("ROLE")
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def _node_of(told: Mapping[str, str]) -> Node:
    return Node(told["ip"], int(told["port"]))


def _text(word: bytes | str) -> str:
    """What a server's administrator may have written in any bytes: what is no UTF-8 is no name either."""
    return word.decode(errors="replace") if isinstance(word, bytes) else word


def _is_up(told: Mapping[str, str]) -> bool:
    """Whether a replica can be connected to, as far as the Sentinel knows, and by the name that it has."""
    return unfit_label(told["ip"]) is None and not any(flag in told["flags"] for flag in _DOWN)


def _is_answer(error: redis.RedisError) -> bool:
    """Whether a server said this, or at least: it is not that nobody is there."""
    if isinstance(error, redis.AuthenticationError):  # redis-py files it under ConnectionError
        return True
    return not isinstance(error, redis.ConnectionError | redis.TimeoutError)
