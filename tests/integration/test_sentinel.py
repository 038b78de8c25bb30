"""Sentinel: the primary is found, again after it changed, replicas for those who read, and what is wrong is said."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from hsm_shipper.commands.check import check
from hsm_shipper.commands.check_sentinel import judge_sentinels
from hsm_shipper.commands.findings import Finding, Level
from hsm_shipper.config import Config
from hsm_shipper.contract.redis_address import Node
from hsm_shipper.errors import ConfigError, StreamError, StreamRefused, StreamUnavailable
from hsm_shipper.stream.connection import address, connect, primary_now
from hsm_shipper.stream.sentinel import SentinelFinder, SentinelRefused, SentinelUnavailable
from hsm_shipper.stream.stream import ActionStream
from hsm_tools.aio import AsyncStreamReader
from hsm_tools.consumer import StreamReader
from hsm_tools.live_view import LiveView
from hsm_tools.reader.replica import ReplicaLog, ReplicaState, replica_state
from hsm_tools.stats import main as stats
from hsm_tools.top import main as top
from tests.conftest import PrivateServer
from tests.support.core import KEY, add
from tests.support.sentinels import SERVICE, SentinelServer, SentinelService
from tests.support.servers import RedisServer, connections, free_port
from tests.support.waiting import DEADLINE_S, eventually


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelService]:
    """A primary, two replicas, three Sentinels, and a stream with an entry at least."""
    service = SentinelService(tmp_path_factory.mktemp("service"), replicas=2)
    try:
        service.start()
        with connect(service.config(), KEY) as client:
            add(client, b"{}")
        yield service
    finally:
        service.kill()


def last_id(client: redis.Redis) -> bytes:
    """Where the stream ends."""
    told: Any = client.xinfo_stream(KEY)["last-generated-id"]
    return bytes(told)


async def streams_of(reader: AsyncStreamReader) -> list[str]:
    """What it finds."""
    async with reader:
        return await reader.streams()


def test_shipper_tools_and_api_name_it_alike(service: SentinelService) -> None:
    config = service.config()
    with StreamReader(redis_url=service.url) as reader, LiveView(redis_url=service.url) as view:
        assert reader.streams() == [KEY]
        view.refresh()
        assert reader.address == service.url
    assert asyncio.run(streams_of(AsyncStreamReader(redis_url=service.url))) == [KEY]
    assert asyncio.run(streams_of(AsyncStreamReader.from_config(config))) == [KEY]


def test_a_sentinel_that_is_down_costs_a_look_and_the_next_is_asked_first(service: SentinelService) -> None:
    nobody = free_port()
    config = Config(redis_url=service.url.replace("://", f"://127.0.0.1:{nobody},"))
    with connect(config, KEY) as client:
        client.ping()
        finder: SentinelFinder = client.connection_pool.connection_kwargs["finder"]
        assert finder.sentinels[0] != Node("127.0.0.1", nobody)
        assert finder.connected_to == Node("127.0.0.1", service.primary.port)


def test_a_sentinel_that_hangs_costs_seconds_and_the_next_is_asked_first(service: SentinelService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, and nobody answers
        port = silent.getsockname()[1]
        config = Config(redis_url=service.url.replace("://", f"://127.0.0.1:{port},"))
        with connect(config, KEY) as client:
            client.ping()
            finder: SentinelFinder = client.connection_pool.connection_kwargs["finder"]
            assert finder.sentinels[0] != Node("127.0.0.1", port)
            assert finder.connected_to == Node("127.0.0.1", service.primary.port)


def test_who_only_reads_may_read_from_a_replica(service: SentinelService) -> None:
    eventually(service.is_settled)
    with service.primary.client() as client:
        at_primary = connections(client)
    for config in (service.config(redis_read_from="replica"), Config(redis_url=f"{service.url}?read_from=replica")):
        with StreamReader.from_config(config) as reader:
            events = reader.events(block_ms=100)
            assert next(events) is None
            with service.primary.client() as client:
                assert connections(client) == at_primary
            # Groups write.
            with reader.group("alerts", from_beginning=True) as group:
                next(group.events(block_ms=1000))
            with connect(config, KEY) as client:
                assert client.info("replication")["role"] == "master"
        with StreamReader.from_config(config, from_primary=True) as reader:
            assert reader.streams() == [KEY]


def test_tools_show_how_old_the_data_of_a_replica_may_be(
    service: SentinelService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eventually(service.is_settled)
    url = f"{service.url}?read_from=replica"
    with LiveView(redis_url=url) as view, LiveView(redis_url=service.url) as plain:
        view.refresh()
        plain.refresh()
        assert plain.replica is None
        assert view.replica is not None
        assert view.replica.server in {f"127.0.0.1:{one.port}" for one in service.replicas}
        assert (view.replica.is_linked, view.replica.is_behind) == (True, False)
    assert stats(["--redis-url", url, "--format", "table"]) == 0
    assert "Read from:     replica 127.0.0.1:" in capsys.readouterr().out
    assert stats(["--redis-url", url, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)["summary"]["replica"]
    assert told["is_linked"] and told["silent_seconds"] < 60
    assert stats(["--redis-url", url, "--format", "prometheus"]) == 0
    assert re.search(r"^hsm_redis_replica_linked{.*} 1.0$", capsys.readouterr().out, re.MULTILINE)
    assert stats(["--redis-url", url, "--format", "influx"]) == 0
    assert re.search(r"^hsm_replica,.* is_linked=1i,silent_seconds=\d+i ", capsys.readouterr().out, re.MULTILINE)
    assert top(["--redis-url", url, "--run-once"]) == 0
    assert "| Redis: Connected to replica 127.0.0.1:" in capsys.readouterr().out


def test_a_replica_that_lost_its_primary_says_since_when(private_server: PrivateServer) -> None:
    primary, replica = (private_server(repl_diskless_sync_delay="0") for _ in range(2))
    node = Node("h", 1)
    with primary.client() as client:
        add(client, b"{}")
        assert replica_state(node, b"# Replication\r\nrole:master\r\n") is None
    replica.follow(primary)
    with replica.client() as client:
        client.response_callbacks.clear()
        told = replica_state(node, client.execute_command("INFO", "replication"))
        assert told is not None
        assert str(told).startswith("replica h:1, heard of its primary ")
        primary.kill()

        def lost() -> ReplicaState | None:
            found = replica_state(node, client.execute_command("INFO", "replication"))
            return found if found is not None and found.is_behind else None

        found = eventually(lost)
    assert found is not None
    assert str(found) in {
        f"replica h:1, which has lost its primary {s}s ago: what is shown is of then" for s in range(60)
    }
    refused = replica_state(node, redis.exceptions.NoPermissionError("no"))
    assert refused is not None and refused.is_behind
    assert "allow this Redis user +info" in str(refused)


def test_what_a_tail_reads_from_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log, node = ReplicaLog(), Node("h", 1)
    for is_linked in (True, True, False, False, True):
        log.connected(node, is_linked)
    assert caplog.messages == [
        "reading from replica h:1, which has its primary",
        "replica h:1 has lost its primary: what it says is as old as that",
        "reading from replica h:1, which has its primary again",
    ]


def test_a_replica_that_copied_nothing_yet_is_not_read_from() -> None:
    finder = SentinelFinder(Config(redis_url="redis+sentinel://h/hsm").redis_address, "replica", {})
    node = Node("h", 1)
    finder.check_role(node, [b"slave", b"p", 1, b"connected", 5])
    finder.check_role(node, [b"slave", b"p", 1, b"connect", 5])  # it has lost its primary, and says how long ago
    finder.check_role(node, [b"master", 5, []])
    with pytest.raises(SentinelUnavailable, match="has not copied its primary yet"):
        finder.check_role(node, [b"slave", b"p", 1, b"sync", -1])


def replica(port: int, flags: str = "slave", link: str = "ok", host: str = "h") -> list[bytes]:
    """A replica as a Sentinel tells of it."""
    told = {"name": f"{host}:{port}", "ip": host, "port": str(port), "flags": flags, "master-link-status": link}
    return [word.encode(errors="surrogateescape") for pair in told.items() for word in pair]


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "", "\udcff"])
def test_a_name_that_cannot_be_looked_up_is_refused_and_of_a_replica_passed_over(host: str) -> None:
    """A server announces itself by any name (replica-announce-ip)."""
    finder = SentinelFinder(Config(redis_url="redis+sentinel://s/hsm").redis_address, "replica", {})
    questions = finder.candidates()
    next(questions)
    questions.send([b"h", b"1"])
    with pytest.raises(StopIteration) as end:
        questions.send([replica(2, host=host), replica(4)])
    assert end.value.value == [Node("h", 4), Node("h", 1)]
    questions = SentinelFinder(Config(redis_url="redis+sentinel://s/hsm").redis_address, "primary", {}).candidates()
    next(questions)
    with pytest.raises(SentinelRefused, match="name for 'hsm' a server that nobody can connect to"):
        questions.send([host.encode(errors="surrogateescape"), b"1"])


def test_replicas_in_step_come_first_then_the_primary_then_those_that_lost_it() -> None:
    finder = SentinelFinder(Config(redis_url="redis+sentinel://s/hsm").redis_address, "replica", {})
    questions = finder.candidates()
    assert next(questions).command == ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "hsm")
    assert questions.send([b"h", b"1"]).command == ("SENTINEL", "REPLICAS", "hsm")
    told = [replica(2, link="err"), replica(3, "slave,s_down"), replica(4), replica(5, "slave,disconnected")]
    with pytest.raises(StopIteration) as end:
        questions.send(told)
    assert end.value.value == [Node("h", 4), Node("h", 1), Node("h", 2)]


def test_the_replica_that_was_read_from_before_is_read_from_again() -> None:
    finder = SentinelFinder(Config(redis_url="redis+sentinel://s/hsm").redis_address, "replica", {})
    for _ in range(20):
        finder.connected_to = Node("h", 5)
        questions = finder.candidates()
        next(questions)
        questions.send([b"h", b"1"])
        with pytest.raises(StopIteration) as end:
            questions.send([replica(port) for port in range(2, 9)])
        assert end.value.value[0] == Node("h", 5)
        assert end.value.value[-1] == Node("h", 1)


def told(config: Config, words: str) -> tuple[type[StreamError], str]:
    """What is raised where the Sentinels are asked, by shipper, readers and asyncio alike: its kind, and the hint.

    The message holds `words`.
    """
    errors: list[StreamError] = []
    with connect(config, KEY) as client, pytest.raises(StreamError) as error:
        ActionStream(client, KEY, address(config)).head()
    errors.append(error.value)
    with pytest.raises(StreamError) as error, StreamReader.from_config(config) as reader:
        reader.streams()
    errors.append(error.value)
    with pytest.raises(StreamError) as error:
        asyncio.run(streams_of(AsyncStreamReader.from_config(config)))
    errors.append(error.value)
    assert all(words in one.message for one in errors), errors
    [found] = {
        (type(one), one.hint.removesuffix(" It is tried again at every poll").removesuffix(".")) for one in errors
    }
    return found


def test_no_sentinel_answers(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    url = f"redis+sentinel://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/hsm"
    kind, hint = told(Config(redis_url=url), f"no Sentinel answers (127.0.0.1:{ports[0]}: ")
    assert kind is StreamUnavailable
    assert "are the Sentinels up" in hint
    with pytest.raises(StreamUnavailable, match=rf"no Sentinel answers \(127.0.0.1:{ports[0]}: .*{ports[1]}: "):
        primary_now(Config(redis_url=url))


def test_no_such_service(service: SentinelService) -> None:
    config = Config(redis_url=service.url.replace(f"/{SERVICE}/", "/other/"))
    kind, hint = told(config, "no Sentinel knows the service 'other'")
    assert kind is StreamRefused
    assert "the name behind `sentinel monitor`" in hint


def test_a_server_that_is_no_sentinel(private_server: PrivateServer) -> None:
    server = private_server()
    kind, hint = told(Config(redis_url=f"redis+sentinel://127.0.0.1:{server.port}/hsm"), "no Sentinel knows")
    assert kind is StreamRefused
    assert "is that port a Sentinel's?" in hint


def test_a_primary_that_does_not_answer(tmp_path: Path, private_server: PrivateServer) -> None:
    primary = private_server()
    sentinel = SentinelServer(tmp_path / "sentinel", primary).start()
    try:
        config = Config(redis_url=f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}")
        connect(config, KEY).ping()
        primary.kill()
        kind, hint = told(config, f"(127.0.0.1:{primary.port} is what the Sentinels name for 'hsm')")
        assert kind is StreamUnavailable
        assert "a failover under way" in hint
    finally:
        sentinel.kill()


def test_a_replica_that_passes_for_the_primary(tmp_path: Path, private_server: PrivateServer) -> None:
    primary = private_server(replicaof="127.0.0.1 1")
    sentinel = SentinelServer(tmp_path / "sentinel", primary).start()
    try:
        config = Config(redis_url=f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}")
        kind, hint = told(config, "is no primary, it says that it is a slave")
        assert kind is StreamUnavailable
        assert "a failover may be under way" in hint
    finally:
        sentinel.kill()


def test_a_sentinel_that_knows_an_old_primary_is_asked_last_the_next_time(
    tmp_path: Path, private_server: PrivateServer
) -> None:
    old, primary = private_server(replicaof="127.0.0.1 1"), private_server()
    sentinels = [SentinelServer(tmp_path / f"sentinel{server.port}", server) for server in (old, primary)]
    try:
        for sentinel in sentinels:
            sentinel.start()
        listed = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        with connect(Config(redis_url=f"redis+sentinel://{listed}/{SERVICE}/0"), KEY) as client:
            with pytest.raises(SentinelUnavailable, match="is no primary"):
                client.ping()
            assert client.ping()
    finally:
        for sentinel in sentinels:
            sentinel.kill()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[SentinelServer, RedisServer]]:
    """A Sentinel with users, and a server with others."""
    server = RedisServer(tmp_path / "server", {"aclfile": str(tmp_path / "acl")})
    rules = "~hsm:actions:* ~{hsm:actions:*}:* -@all +role +scan +type +xinfo|stream"
    (tmp_path / "acl").write_text(f"user default on nopass -@all +ping\nuser ship on >s3cr3t {rules}\n")
    server.start()
    users = (
        "user default off",
        "user look on >w4tch -@all +ping +sentinel|get-master-addr-by-name +sentinel|replicas",
        "user none on >w4tch -@all +ping",
    )
    sentinel = SentinelServer(tmp_path / "sentinel", server, *users)
    sentinel.start()
    yield sentinel, server
    sentinel.kill()
    server.kill()


def test_sentinels_have_users_of_their_own(guarded: tuple[SentinelServer, RedisServer], tmp_path: Path) -> None:
    sentinel, _ = guarded
    secrets = {name: tmp_path / name for name in ("server.password", "sentinel.password")}
    for path, secret in zip(secrets.values(), ("s3cr3t", "w4tch"), strict=True):
        path.write_text(f"{secret}\n")
    keys: dict[str, Any] = {"redis_username": "ship", "redis_password_file": str(secrets["server.password"])}
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}/0"
    kind, hint = told(Config(redis_url=url, **keys), "the Sentinels refuse us (127.0.0.1:")
    assert kind is StreamRefused
    assert "set redis_sentinel_username and redis_sentinel_password_file" in hint
    keys["redis_sentinel_password_file"] = str(secrets["sentinel.password"])
    kind, hint = told(Config(redis_url=url, redis_sentinel_username="none", **keys), "the Sentinels refuse us")
    assert kind is StreamRefused
    assert "+sentinel|get-master-addr-by-name" in hint
    for config in (
        Config(redis_url=url, redis_sentinel_username="look", **keys),
        Config(redis_url=f"{url}?username=ship&password=s3cr3t&sentinel_username=look&sentinel_password=w4tch"),
    ):
        with StreamReader.from_config(config) as reader:
            assert reader.streams() == []
        assert asyncio.run(streams_of(AsyncStreamReader.from_config(config))) == []
    with pytest.raises(ConfigError, match="redis_sentinel_password_file: cannot read"):
        connect(Config(redis_url=url, redis_sentinel_password_file=str(tmp_path / "none")), KEY)


def found(config_file: Path, subject: str) -> list[Finding]:
    """What `check` finds on a subject."""
    return [finding for finding in check(config_file) if finding.subject == subject]


def test_check_asks_every_sentinel(service: SentinelService, tmp_path: Path) -> None:
    file = tmp_path / "shipper.yaml"
    file.write_text(f"redis_url: {service.url}\nstate_dir: {tmp_path}\nrun_dir: {tmp_path}\n")
    [finding] = found(file, "Sentinels")
    assert finding.level is Level.OK
    assert finding.text == f"3 of 3 name 127.0.0.1:{service.primary.port} as the primary of 'hsm'"
    assert {finding.level for finding in found(file, "Redis")} <= {Level.OK, Level.WARNING}
    nobody = free_port()
    file.write_text(file.read_text().replace("://", f"://127.0.0.1:{nobody},"))
    finding, silent = found(file, "Sentinels")
    assert "3 of 4 name" in finding.text
    assert silent.level is Level.WARNING and f"no Sentinel answers (127.0.0.1:{nobody}: " in silent.text


def test_check_tells_of_sentinels_that_do_not_agree() -> None:
    one, two = Node("s1", 1), Node("s2", 1)
    [finding] = judge_sentinels({one: Node("a", 1), two: Node("b", 1)}, "hsm")
    assert finding.level is Level.PROBLEM
    assert "s1:1 names a:1, s2:1 names b:1" in finding.text
    [finding] = judge_sentinels({one: SentinelUnavailable("no Sentinel answers", "are they up?")}, "hsm")
    assert (finding.level, finding.advice) == (Level.PROBLEM, "are they up?")


def test_the_primary_is_looked_up_whenever_a_connection_is_made(service: SentinelService) -> None:
    with connect(service.config(), KEY) as client:
        for _ in range(2):
            add(client, b"{}")
            with service.primary.client() as there:
                assert last_id(client) == last_id(there)
            before = service.primary
            in_use = client.connection_pool.get_connection()
            in_use.disconnect()
            assert service.switch() is not before
            in_use.send_command("ROLE")  # as where it was lost in use
            assert in_use.read_response()[0] == b"master"
            client.connection_pool.release(in_use)
            client.connection_pool.disconnect()
    assert primary_now(service.config()) == f"127.0.0.1:{service.primary.port}"


def test_asyncio_follows_the_primary(service: SentinelService) -> None:
    def told() -> None:
        with connect(service.config(), KEY) as client:
            add(client, {"event_type": "NEW"})

    async def read() -> None:
        async with AsyncStreamReader.from_config(service.config()) as reader:
            events = reader.events(block_ms=100)
            assert await anext(events) is None
            for turn in range(2):
                if turn:
                    await asyncio.to_thread(service.switch)
                await asyncio.to_thread(told)
                async with asyncio.timeout(DEADLINE_S):
                    while await anext(events) is None:
                        pass

    asyncio.run(read())
