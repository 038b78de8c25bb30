"""The worker as it is configured: real listings in order, one poll at a time or until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import redis

from hsm_shipper.config import Config
from hsm_shipper.errors import ActionsError, AlreadyRunning, StreamUnavailable
from hsm_shipper.process.stop_signal import StopSignal
from hsm_shipper.state.locks import FileLock, worker_lock_path
from hsm_shipper.state.poll_status import read_poll_status, state_file
from hsm_shipper.worker.main import run, run_once
from hsm_shipper.worker.poll_spread import share_of_interval
from tests.conftest import PrivateServer
from tests.simulator import ARCHIVE, SimulatedMds, SimulatedMdt
from tests.support.core import FIXTURES, KEY, MDT, by_place, line, lines
from tests.support.servers import RedisServer, free_port
from tests.support.truth import entries_of, judge_stream
from tests.support.waiting import DEADLINE_S, eventually

LISTING = lines(range(1, 7))


@pytest.fixture
def poll_interval_s() -> float:
    return 0.05


@pytest.fixture
def hold_actions_file() -> bool:
    return True


@pytest.fixture
def config(
    tmp_path: Path, redis_server: RedisServer, redis_db: int, poll_interval_s: float, hold_actions_file: bool
) -> Config:
    return Config(
        redis_host=redis_server.host,
        redis_port=redis_server.port,
        redis_db=redis_db,
        state_dir=str(tmp_path / "state"),
        host="mds1",
        poll_interval_s=poll_interval_s,
        hold_actions_file=hold_actions_file,
    )


@pytest.fixture
def actions(tmp_path: Path) -> Path:
    path = tmp_path / "mdt" / MDT / "hsm" / "actions"
    path.parent.mkdir(parents=True)
    return path


def show(actions: Path, *listing: bytes) -> None:
    """The kernel's listing from now on."""
    new = actions.with_name("new")
    new.write_bytes(b"".join(data + b"\n" for data in listing))
    new.replace(actions)


# Real listings

Identity = tuple[str, str, str, str]


def by_identity(listing: bytes) -> dict[Identity, bytes]:
    """The lines by place, FID, action and cookie, read without the project's parser."""
    found = {}
    for data in listing.splitlines():
        words = dict(word.split("=", 1) for word in data.decode().replace("lrh=[", "").split())
        cookie = words["compound/cookie"].split("/")[1]
        found[words["idx"], words["fid"], words["action"], cookie] = data
    return found


def expected_events(listings: list[bytes]) -> Counter[str]:
    """What comparing each listing with the one before it comes to."""
    expected: Counter[str] = Counter()
    before: dict[Identity, bytes] = {}
    for listing in listings:
        now = by_identity(listing)
        expected["NEW"] += len(now.keys() - before.keys())
        expected["PURGED"] += len(before.keys() - now.keys())
        expected["UPDATE"] += sum(now[key] != before[key] for key in now.keys() & before.keys())
        before = now
    return expected


@pytest.mark.parametrize(("names", "minimum"), [("[0-9]*.txt", 40), ("L*.txt", 3)], ids=["first", "second"])
def test_real_listings_in_their_order_give_exactly_the_changes_between_them(
    config: Config, actions: Path, client: redis.Redis, names: str, minimum: int
) -> None:
    listings = [path.read_bytes() for path in sorted((FIXTURES / "lustre-2.17.57").glob(names))]
    assert len(listings) >= minimum
    for listing in listings:
        actions.write_bytes(listing)
        for _ in range(2):  # a purge of most of a list is believed at its second reading
            run_once(config, MDT, actions)
        verdict = judge_stream(client, KEY)
        assert {action.place: action.digest for action in verdict.live} == by_place(listing.splitlines())
    assert (verdict.complaints, verdict.malformed) == ([], 0)
    assert verdict.events == expected_events(listings)
    assert min(expected_events(listings)[kind] for kind in ("NEW", "UPDATE")) > 0


# One poll at a time


def test_one_poll_ships_and_leaves_its_status(config: Config, actions: Path, client: redis.Redis) -> None:
    show(actions, *LISTING)
    result = run_once(config, MDT, actions)
    assert (result.events, result.lines) == ({"NEW": 6}, 6)
    status = read_poll_status(state_file(config.state_path, MDT))
    assert status is not None
    assert (status.mdt, status.host, status.pid, status.live) == (MDT, "mds1", os.getpid(), 6)
    assert len(entries_of(client, KEY)) == 6


def test_an_empty_listing_is_believed_at_the_second_of_two_single_polls(
    config: Config, actions: Path, client: redis.Redis
) -> None:
    show(actions, *LISTING)
    run_once(config, MDT, actions)
    show(actions)
    assert run_once(config, MDT, actions).events == {}
    assert run_once(config, MDT, actions).events == {"PURGED": 6}
    assert len(judge_stream(client, KEY).live) == 0


def test_the_configuration_names_prefix_and_content(config: Config, actions: Path, client: redis.Redis) -> None:
    show(actions, line(1))
    run_once(msgspec.structs.replace(config, redis_stream_prefix="other:prefix", include_raw=False), MDT, actions)
    ((_, data),) = entries_of(client, f"other:prefix:{MDT}")
    assert data is not None
    assert "raw" not in msgspec.json.decode(data)


def test_a_single_poll_that_fails_says_so_and_lets_go_of_its_lock(config: Config, actions: Path) -> None:
    with pytest.raises(ActionsError):
        run_once(config, MDT, actions)
    show(actions, *LISTING)
    run_once(config, MDT, actions)


def test_a_single_poll_without_redis_fails(config: Config, actions: Path, redis_server: RedisServer) -> None:
    show(actions, *LISTING)
    with pytest.raises(StreamUnavailable):
        run_once(msgspec.structs.replace(config, redis_port=free_port()), MDT, actions)


def test_beside_a_running_worker_a_single_poll_is_refused(config: Config, actions: Path, client: redis.Redis) -> None:
    show(actions, *LISTING)
    with (
        FileLock(worker_lock_path(config.state_path, MDT), "a worker"),
        pytest.raises(AlreadyRunning, match=str(os.getpid())),
    ):
        run_once(config, MDT, actions)
    assert entries_of(client, KEY) == []


@pytest.mark.parametrize("state", ["init", "stopping"])
def test_what_hsm_control_says_is_read_beside_the_actions_file(
    config: Config, tmp_path: Path, client: redis.Redis, state: str
) -> None:
    mds, mdt = SimulatedMds(tmp_path / "mds"), SimulatedMdt(MDT)
    records = [mdt.submit(ARCHIVE) for _ in range(4)]
    mdt.mount(mds)
    run_once(config, MDT, mds.actions_path(MDT))
    mdt.remove(records[0])
    mdt.set_hsm_control(state)
    mdt.write()
    assert run_once(config, MDT, mds.actions_path(MDT)).events == {}
    mdt.set_hsm_control("enabled")
    assert run_once(config, MDT, mds.actions_path(MDT)).events == {"PURGED": 1}


# Until it is told to stop


@pytest.fixture
def worker(config: Config, actions: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker process on an MDT with six actions."""
    with started_worker(config, actions, tmp_path) as process:
        yield process


@contextlib.contextmanager
def started_worker(config: Config, actions: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The same on any Redis."""
    show(actions, *LISTING)
    settings = {
        "redis_host": config.redis_host,
        "redis_port": config.redis_port,
        "redis_db": config.redis_db,
        "redis_url": config.redis_url or "null",
        "state_dir": config.state_dir,
        "poll_interval": config.poll_interval_s,
        "hold_actions_file": str(config.hold_actions_file).lower(),
    }
    (tmp_path / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
    command = [sys.executable, "-m", "hsm_shipper.worker.main", "--mdt", MDT, "--actions", str(actions)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HSM_")}
    process = subprocess.Popen(
        [*command, "--config", str(tmp_path / "config.yaml")], stderr=subprocess.PIPE, text=True, env=environ
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_worker_ships_what_changes_until_it_is_told_to_stop(
    worker: subprocess.Popen[str], config: Config, actions: Path, client: redis.Redis
) -> None:
    eventually(lambda: len(entries_of(client, KEY)) == 6)
    show(actions, line(1, "STARTED"), *LISTING[1:5])
    eventually(lambda: judge_stream(client, KEY).events == {"NEW": 6, "UPDATE": 1, "PURGED": 1})
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(DEADLINE_S) == 0
    FileLock(worker_lock_path(config.state_path, MDT), "a worker").release()
    assert judge_stream(client, KEY).complaints == []


def test_a_worker_goes_on_polling_while_its_file_cannot_be_read(
    worker: subprocess.Popen[str], actions: Path, client: redis.Redis, config: Config
) -> None:
    def polls() -> int:
        status = read_poll_status(state_file(config.state_path, MDT))
        return 0 if status is None else status.polls

    eventually(lambda: len(entries_of(client, KEY)) == 6)
    actions.unlink()
    before = polls()
    eventually(lambda: polls() > before + 2)
    show(actions, *LISTING, line(7))
    eventually(lambda: len(entries_of(client, KEY)) == 7)
    assert judge_stream(client, KEY).events == {"NEW": 7}


def test_a_second_worker_on_the_same_mdt_ends_with_one_line_that_names_the_first(
    worker: subprocess.Popen[str], client: redis.Redis
) -> None:
    eventually(lambda: entries_of(client, KEY))
    assert isinstance(worker.args, list)
    second = subprocess.run(worker.args, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=False)
    assert second.returncode == 1
    (said,) = second.stderr.splitlines()
    assert f" ERROR mdt-{MDT}: " in said
    assert f"already running (pid {worker.pid}" in said


class FirstWait(StopSignal):
    """Ends a worker as it begins to wait, and tells until when it would have waited."""

    def __init__(self) -> None:
        self.until_s = 0.0

    def wait(self, timeout_s: float) -> bool:
        self.until_s = time.monotonic() + timeout_s
        return True


@pytest.mark.parametrize("poll_interval_s", [36_000.0])
@pytest.mark.parametrize("mdt", [MDT, "elm-MDT0001", "oak-MDT0001"])
def test_a_worker_waits_for_the_turn_of_its_mdt(config: Config, actions: Path, mdt: str) -> None:
    show(actions, *LISTING)
    stop = FirstWait()
    run(config, mdt, actions, stop)
    turn_s = share_of_interval(mdt) * config.poll_interval_s
    assert 0 <= (stop.until_s - turn_s) % config.poll_interval_s < DEADLINE_S


@pytest.mark.parametrize("poll_interval_s", [3600.0])
def test_a_worker_polls_as_it_starts_and_stops_while_it_waits(
    worker: subprocess.Popen[str], client: redis.Redis, config: Config
) -> None:
    eventually(lambda: len(entries_of(client, KEY)) == 6)
    eventually(lambda: read_poll_status(state_file(config.state_path, MDT)))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(DEADLINE_S) == 0


# What it holds


def held_by(process: subprocess.Popen[str], path: Path) -> int:
    """How many descriptors of a process are open on `path`, which may be gone."""
    count = 0
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += str(link.readlink()).removesuffix(" (deleted)") == str(path.resolve())
    return count


def unread_bytes(port: int) -> int:
    """What was sent to a server that hangs: columns of proc_net_tcp(5)."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].split(":")[1], 16) for row in rows if row[1].endswith(f":{port:04X}"))


@pytest.mark.parametrize("poll_interval_s", [3600.0])
def test_a_worker_lets_go_of_the_file_when_its_mdt_leaves(
    worker: subprocess.Popen[str], actions: Path, client: redis.Redis
) -> None:
    eventually(lambda: len(entries_of(client, KEY)) == 6)
    eventually(lambda: held_by(worker, actions) == 1)
    shutil.rmtree(actions.parents[1])
    eventually(lambda: held_by(worker, actions) == 0)
    assert worker.poll() is None


@pytest.fixture
def broker(private_server: PrivateServer) -> RedisServer:
    """A server of the worker's own, to hang."""
    return private_server()


def test_it_lets_go_of_the_file_while_it_waits_for_redis(
    broker: RedisServer, config: Config, actions: Path, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(config, redis_url=f"{broker.url}/0?socket_timeout={10 * DEADLINE_S}")
    with broker.client() as client, started_worker(config, actions, tmp_path) as worker:
        eventually(lambda: len(entries_of(client, KEY)) == 6)
        broker.pause()
        eventually(lambda: unread_bytes(broker.port))
        assert held_by(worker, actions) == 1
        shutil.rmtree(actions.parents[1])
        eventually(lambda: held_by(worker, actions) == 0)
        before = read_poll_status(state_file(config.state_path, MDT))
        broker.resume()
        eventually(lambda: read_poll_status(state_file(config.state_path, MDT)) != before)


@pytest.mark.parametrize("hold_actions_file", [False])
def test_a_worker_that_is_not_to_hold_the_file_closes_it_after_each_poll(
    worker: subprocess.Popen[str], actions: Path, client: redis.Redis
) -> None:
    eventually(lambda: len(entries_of(client, KEY)) == 6)
    eventually(lambda: held_by(worker, actions) == 0)
