"""Each program as the very user that docs/permissions.md describes: that is enough, and none of it is too much."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from hsm_shipper.commands.check_maintenance import maintenance_findings
from hsm_shipper.commands.check_redis import redis_findings
from hsm_shipper.commands.findings import Finding, Level
from hsm_shipper.config import Config, load_config
from hsm_shipper.contract.acl_commands import GROUP_COMMANDS, LIVE_COMMANDS, READER_COMMANDS, SHIPPER_COMMANDS
from hsm_shipper.contract.event import decode
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.redis_keys import heartbeat_key
from hsm_shipper.errors import StreamRefused
from hsm_shipper.stream import maintenance_lock
from hsm_shipper.stream.connection import connect
from hsm_shipper.stream.maintenance_lock import MaintenanceLock
from hsm_shipper.stream.stream import ActionStream
from hsm_tools.command.filters import ActionFilter
from hsm_tools.consumer import StreamReader
from hsm_tools.dashboard.data.lookup import Lookup
from hsm_tools.live_state.follow import LiveStreams
from hsm_tools.live_view import LiveView
from hsm_tools.statistics.exporter import Exporter
from tests.acceptance.conftest import MakeServer
from tests.conftest import PrivateServer
from tests.simulator import SimulatedMdt
from tests.support.maintained import LOCK
from tests.support.sentinels import SERVICE, SentinelServer
from tests.support.servers import RedisServer
from tests.support.shipper import COMMAND, clean_environment
from tests.support.site import MDT, STREAM, SimulatedServer, run_once
from tests.support.waiting import eventually

DOCUMENT = Path(__file__).parents[2] / "docs/permissions.md"
OLD = "elm-MDT0009"
PASSWORD = "word"
# What every connection says, and what the test itself does.
BESIDE = {"auth", "hello", "client|setinfo", "acl|setuser", "config|resetstat", "info"}


class Role(NamedTuple):
    """A row of the document."""

    commands: list[str]
    keys: dict[str, list[str]]


def roles() -> dict[str, Role]:
    """By what stands in the first column."""
    found = {}
    for row in DOCUMENT.read_text().splitlines():
        if row.startswith("| ") and not row.startswith("| who"):
            who, commands, keys, newer = (cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|")))
            words = commands.strip("`").replace("\\|", "|").split()
            found[who] = Role(words, {"~": keys.strip("`").split(), "%": newer.strip("`").split()})
    return found


def role(beginning: str) -> Role:
    """The one row whose first column begins so."""
    [one] = [found for who, found in roles().items() if who.startswith(beginning)]
    return one


SHIPPER = role("`hsm-action-shipper`: ")
CHECK = role("`hsm-action-shipper check`")
CHECKER = Role(SHIPPER.commands + CHECK.commands, SHIPPER.keys)


class Site:
    """A server with one MDT, whose Redis knows the user `user`; `style` is that of the key patterns."""

    def __init__(self, server: SimulatedServer, mdt: SimulatedMdt, redis_server: RedisServer, style: str) -> None:
        self.server = server
        self.mdt = mdt
        self.redis = redis_server
        self.admin = redis_server.client(1)
        self.copies: list[redis.Redis] = []
        """Of its replicas: users are not replicated."""
        self.style = style
        self.config = Config()
        mdt.mount(server.mds)

    def let(self, user: str, role: Role, *without: str) -> None:
        """Give a user what `role` needs, less some of it, and nothing else."""
        rules = [rule for rule in (*role.keys[self.style], "-@all", *role.commands) if rule not in without]
        everything = (user, "reset", "on", f">{PASSWORD}", *rules)
        for client in (self.admin, *self.copies):
            client.execute_command("ACL", "SETUSER", *everything)  # type: ignore[no-untyped-call]

    def become(self, role: Role, *without: str) -> None:
        """From now on everything is done as such a user."""
        self.let("user", role, *without)
        password = self.server.root / "password"
        password.write_text(PASSWORD)
        self.server.configure(redis_db=1, redis_username="user", redis_password_file=str(password))
        self.config = load_config(self.server.config, {}).config
        self.admin.config_resetstat()

    def tool(self, name: str, *arguments: str, **environ: str) -> None:
        """Run a tool, which must work."""
        command = [str(COMMAND.with_name(name)), "-c", str(self.server.config), *arguments]
        environment = clean_environment() | environ
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)

    def used(self) -> set[str]:
        """Commands that were called since; none may have been refused."""
        stats = {name.removeprefix("cmdstat_"): told for name, told in self.admin.info("commandstats").items()}
        assert not {name for name, told in stats.items() if told["rejected_calls"]} - {"client|setinfo"}
        return {name for name, told in stats.items() if told["calls"]} - BESIDE

    def uses_exactly(self, role: Role, *beside: str) -> None:
        """Nothing was refused, and every command that the document names was called, but for those `beside`."""
        assert self.used() - {*beside} == {command.removeprefix("+") for command in role.commands} - BESIDE


@pytest.fixture(params=["~", "%"], ids=["keys as of 6.2", "keys as of 7.0"])
def site(request: pytest.FixtureRequest, make_server: MakeServer, private_server: PrivateServer) -> Site:
    """An MDT with a few actions; nothing has run yet."""
    redis_server = private_server(appendonly="yes")
    mdt = SimulatedMdt(MDT)
    for _ in range(3):
        mdt.submit("ARCHIVE")
    return Site(make_server(redis=redis_server), mdt, redis_server, request.param)


@pytest.fixture
def polled(site: Site) -> Site:
    """One whose shipper has run."""
    site.become(SHIPPER)
    run_once(site.server)
    return site


def test_the_shipper(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.admin.xgroup_create(STREAM, "slow", "$", mkstream=True)
    site.become(SHIPPER)
    site.server.start_polled(site.mdt)
    site.mdt.submit("RESTORE")
    site.mdt.write()
    site.server.wait_polled(site.mdt)
    done = site.server.run("maintain")
    assert done.returncode == 0, done.stderr
    assert site.server.stop() == 0
    monkeypatch.setattr(maintenance_lock, "RENEW_AFTER_S", 0.0)  # as a run that takes long
    client = connect(site.config, STREAM)
    with client, MaintenanceLock(client, LOCK, ActionStream(client, STREAM, ""), "mds1") as lock:
        lock.keep()
    site.uses_exactly(SHIPPER)
    assert site.admin.exists(heartbeat_key("hsm:actions", MDT))


def test_check(polled: Site) -> None:
    polled.become(CHECKER)
    polled.server.configure(poll_interval=20)  # a poll on a busy machine takes longer than that of the fixture
    done = polled.server.run("check")
    assert done.returncode == 0, done.stdout
    polled.uses_exactly(CHECKER)


def test_tail_and_readers(polled: Site) -> None:
    reads = role("`hsm-stream-tail`")
    polled.become(reads)
    polled.tool("hsm-stream-tail", "-n", "2", "--no-follow", "--no-paths")
    entries: Any = polled.admin.xrange(STREAM)
    polled.admin.config_resetstat()
    polled.tool("hsm-stream-tail", "-n", "2", "--no-follow", "--no-paths")
    with StreamReader.from_config(polled.config, discovery_interval=0.05) as reader:
        events = reader.events(from_beginning=True, block_ms=50)
        assert all(next(events) for _ in entries)
        polled.admin.xadd(STREAM, {"data": "{}"})
        eventually(lambda: next(events), 60.0)
        # A stream that was rolled back is asked what it still has.
        polled.admin.delete(STREAM)
        for entry_id, fields in entries:
            polled.admin.xadd(STREAM, fields, entry_id)
        eventually(lambda: next(events) or "xrange" in polled.used(), 60.0)
    polled.uses_exactly(reads, "del", "xadd")


def test_consumer_groups(polled: Site) -> None:
    groups = role("consumer groups")
    polled.become(groups)
    with (
        StreamReader.from_config(polled.config) as reader,
        reader.group("g", from_beginning=True, reclaim_after_s=0.1) as group,
    ):
        events = group.events(block_ms=50)
        for event in (next(events) for _ in range(3)):
            assert event is not None and group.deliveries(event)
            group.ack(event)
    polled.uses_exactly(groups)


def test_stats_and_live_view(polled: Site) -> None:
    live = role("`hsm-stream-stats`")
    polled.become(live)
    polled.tool("hsm-stream-stats")
    exporter = Exporter(polled.config, ActionFilter())
    exporter.refresh()
    readable = next(metric for metric in exporter.collect() if metric.name == "hsm_stream_readable")
    assert [sample.value for sample in readable.samples] == [1]
    with LiveView(host="127.0.0.1", port=polled.config.redis_port, username="user", password=PASSWORD) as view:
        view.refresh()
        view.refresh()
        assert len(view) == 3
    polled.uses_exactly(live)


def test_top(polled: Site) -> None:
    top = role("`hsm-action-top`")
    polled.become(top)
    polled.tool("hsm-action-top", "--run-once")
    actions = ActionFold()
    entries: Any = polled.admin.xrange(STREAM)
    for entry_id, fields in entries:
        actions.apply(entry_id, decode(fields[b"data"]))
    polled.admin.config_resetstat()
    polled.tool("hsm-action-top", "--run-once")
    lookup = Lookup(polled.config)
    action = next(iter(actions))
    assert lookup.entries([(MDT, action.entry_id)])
    assert lookup.since(MDT, action, lookup.history(MDT, action)).entries
    lookup.close()
    polled.uses_exactly(top)


def test_the_reconciler(polled: Site) -> None:
    audits = role("`hsm-stream-reconciler`")
    polled.become(audits)
    polled.tool("hsm-stream-reconciler")
    polled.uses_exactly(audits)


def test_the_reconciler_heals(site: Site) -> None:
    """It does so by the shipper, as the shipper's user."""
    site.become(SHIPPER)
    site.server.start_polled(site.mdt)
    entries: Any = site.admin.xrange(STREAM)
    site.admin.xdel(STREAM, entries[0][0])
    site.let("auditor", role("`hsm-stream-reconciler`"))
    site.tool("hsm-stream-reconciler", "--fix", HSM_REDIS_USERNAME="auditor")
    assert site.server.stop() == 0
    assert "scan" in site.used()


def test_the_reconciler_retires(polled: Site) -> None:
    retires = role("`hsm-stream-reconciler --retire`")
    polled.admin.xadd(f"hsm:actions:{OLD}", {"data": "{}"})
    polled.become(retires)
    polled.tool("hsm-stream-reconciler", "--retire", OLD, "--dry-run")
    polled.tool("hsm-stream-reconciler", "--retire", OLD, "--yes")
    assert not polled.admin.exists(f"hsm:actions:{OLD}")
    polled.uses_exactly(retires)


@pytest.fixture
def guarded(polled: Site, tmp_path: Path) -> Iterator[SentinelServer]:
    """A Sentinel with a user that may do what the document says, and the site's Redis with a replica of its own."""
    words = re.findall(r"`(\+sentinel[^`]+)`", DOCUMENT.read_text())
    users = ("user default off", f"user look on >{PASSWORD} -@all {' '.join(words)}")
    replica = RedisServer(tmp_path / "replica", {"repl-diskless-sync-delay": "0"}).start()
    replica.follow(polled.redis)
    polled.copies.append(replica.client())
    sentinel = SentinelServer(tmp_path / "sentinel", polled.redis, *users)
    sentinel.start()
    with sentinel.client(username="look", password=PASSWORD) as client:
        eventually(lambda: client.execute_command("SENTINEL", "REPLICAS", SERVICE))
    yield sentinel
    sentinel.kill()
    replica.kill()


def with_sentinel(polled: Site, sentinel: SentinelServer, role: Role, *without: str, **keys: object) -> None:
    """From now on everything is done as such a user, who finds Redis by the Sentinel."""
    polled.become(role, *without)
    password = str(polled.server.root / "password")
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}/1"
    named = {"redis_sentinel_username": "look", "redis_sentinel_password_file": password}
    polled.server.configure(redis_url=url, **named, **keys)
    polled.config = load_config(polled.server.config, {}).config


def beside(*words: str) -> set[str]:
    """Those of the commands that the document names for Sentinels, replicas and waiting."""
    section = DOCUMENT.read_text().partition("## With Sentinels")[2].partition("## Beside")[0]
    return {word for word in re.findall(r"`(\+[^`]+)`", section) if word in words}


def test_with_sentinels_and_waiting(polled: Site, guarded: SentinelServer) -> None:
    needs = Role([*SHIPPER.commands, *beside("+role", "+wait")], SHIPPER.keys)
    keys = {"redis_wait_replicas": 1, "redis_wait_timeout": 10}
    with_sentinel(polled, guarded, needs, **keys)
    polled.mdt.submit("ARCHIVE")
    polled.mdt.write()
    run_once(polled.server)
    assert {"role", "wait"} <= polled.used()
    for command in ("+role", "+wait"):
        with_sentinel(polled, guarded, needs, command, **keys)
        polled.mdt.submit("ARCHIVE")
        polled.mdt.write()
        done = polled.server.run("--run-once")
        assert done.returncode == 1 and re.search(rf"allow this Redis user .*{re.escape(command)}[ ;:(]", done.stderr)


def test_from_a_replica(polled: Site, guarded: SentinelServer) -> None:
    live = role("`hsm-stream-stats`")
    needs = Role([*live.commands, *beside("+role", "+info")], live.keys)
    with_sentinel(polled, guarded, needs, redis_read_from="replica")
    polled.tool("hsm-stream-stats")
    assert not {"role", "scan"} & polled.used()  # none of it was asked of the primary
    [replica] = polled.copies
    calls = replica.info("commandstats")
    assert calls["cmdstat_role"]["calls"] and calls["cmdstat_info"]["calls"]
    with_sentinel(polled, guarded, needs, "+info", redis_read_from="replica")
    command = [str(COMMAND.with_name("hsm-stream-stats")), "-c", str(polled.server.config), "--format", "table"]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0
    assert "how old its data is cannot be told: allow this Redis user +info" in done.stdout


def test_the_two_users_of_the_example(polled: Site) -> None:
    """They have what the rows name together, and work."""
    [shipper, reader] = re.findall(r"^ACL SETUSER (.*)$", DOCUMENT.read_text(), re.MULTILINE)
    for line in (shipper, reader):
        rules = line.replace("PASSWORD", PASSWORD).split()
        assert polled.admin.execute_command("ACL", "SETUSER", *rules)  # type: ignore[no-untyped-call]
    assert {word for word in shipper.split() if word.startswith("+")} == {*CHECKER.commands}
    tools = [found.commands for who, found in roles().items() if who.startswith(("`hsm-stream", "`hsm-action-top"))]
    readers = {word for commands in tools for word in commands if "+watch" not in commands}
    assert {word for word in reader.split() if word.startswith("+")} == readers


# They only let `check` say more.
UNSEEN = {"+ping", "+info", "+config|get"}


def findings(config: Config) -> list[Finding]:
    """What `check` says of Redis and of maintenance."""
    found = list(redis_findings(config, MDT))
    answers = all(finding.level < Level.PROBLEM for finding in found)
    return found + list(maintenance_findings(config, [MDT], redis_answers=answers))


def test_check_names_what_the_shipper_lacks(polled: Site) -> None:
    polled.become(CHECKER)
    assert all(finding.level is Level.OK for finding in findings(polled.config))
    for command in CHECKER.commands:
        polled.become(CHECKER, command)
        advice = [finding.advice for finding in findings(polled.config) if finding.level is not Level.OK]
        named = any(re.search(rf"{re.escape(command)}( |$)", text) for text in advice)
        assert named or command in UNSEEN, (command, advice)
    for keys in CHECKER.keys[polled.style]:
        polled.become(CHECKER, keys)
        advice = [finding.advice for finding in findings(polled.config) if finding.level is Level.PROBLEM]
        assert any(f"the keys {STREAM} and {{{STREAM}}}:*" in text for text in advice), (keys, advice)


@pytest.mark.parametrize("command", ["+evalsha", "+xinfo|stream", "+xadd", "+select"])
def test_a_poll_names_what_the_shipper_lacks(polled: Site, command: str) -> None:
    polled.mdt.submit("ARCHIVE")
    polled.mdt.write()
    polled.become(SHIPPER, command)
    done = polled.server.run("--run-once")
    assert done.returncode == 1 and re.search(rf"allow this Redis user .*{re.escape(command)}[ ;(]", done.stderr)


# The others are needed where a stream was rolled back or is gone, or are done without.
@pytest.mark.parametrize("command", ["+select", "+scan", "+type", "+xinfo|stream", "+xread", "+xrevrange"])
def test_a_reader_names_what_its_user_lacks(polled: Site, command: str) -> None:
    polled.become(role("`hsm-stream-tail`"), command)
    with StreamReader.from_config(polled.config) as reader, pytest.raises(StreamRefused) as refused:
        list(itertools.chain(reader.history(last=1), itertools.islice(reader.events(from_beginning=True), 1)))
    assert f"allow this Redis user {command}; it needs " in refused.value.hint


@pytest.mark.parametrize("command", ["+select", "+scan", "+xinfo|stream", "+xrange"])
def test_what_shows_the_live_actions_names_what_its_user_lacks(polled: Site, command: str) -> None:
    polled.become(role("`hsm-stream-stats`"), command)
    streams = LiveStreams.from_config(polled.config)
    try:
        streams.refresh()
        told = str(streams[MDT].trouble)
    except StreamRefused as error:
        told = str(error)
    streams.close()
    assert f"allow this Redis user {command}; it needs " in told


def test_the_hints_are_those_of_the_document() -> None:
    for who, commands in (
        ("`hsm-stream-tail`", READER_COMMANDS),
        ("consumer groups", GROUP_COMMANDS),
        ("`hsm-stream-stats`", LIVE_COMMANDS),
        ("`hsm-action-shipper`: ", SHIPPER_COMMANDS),
    ):
        assert role(who).commands == commands.split()


def test_what_a_user_must_be_allowed_stands_in_this_document_only() -> None:
    """Another page had a list without `+select`, which the default database needs."""
    others = {page.name for page in DOCUMENT.parent.glob("*.md") if re.search(r"`(\+\S+ ){2}", page.read_text())}
    assert others == {DOCUMENT.name}
