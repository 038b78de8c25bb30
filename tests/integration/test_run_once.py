"""`--run-once`: whatever goes wrong with one MDT, the others are polled."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import redis

from hsm_shipper.commands import maintain, run_once
from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.errors import HsmError
from hsm_shipper.process import program
from hsm_shipper.process.stop_signal import StopSignal
from hsm_shipper.state.poll_status import read_poll_status, state_file
from hsm_shipper.worker import main
from hsm_shipper.worker.poll_result import PollResult
from tests.support.core import line
from tests.support.damage import Damage
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S

BAD, GOOD = "elm-MDT0000", "elm-MDT0001"


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer, redis_db: int) -> Iterator[Config]:
    for mdt in (BAD, GOOD):
        actions = tmp_path / mdt / "hsm" / "actions"
        actions.parent.mkdir(parents=True)
        actions.write_bytes(line() + b"\n")
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield Config(
        redis_host=redis_server.host,
        redis_port=redis_server.port,
        redis_db=redis_db,
        state_dir=str(tmp_path / "state"),
        run_dir=str(tmp_path / "run"),
        mdt_watch_glob=str(tmp_path / "*-MDT*" / "hsm" / "actions"),
        host="mds1",
    )
    root.handlers[:], root.level = before, level


def polls(config: Config, mdt: str) -> int:
    """How often an MDT was polled."""
    status = read_poll_status(state_file(config.state_path, mdt))
    return 0 if status is None else status.polls


def test_damage_in_one_state_file_is_mended_and_every_mdt_polled(config: Config, client: redis.Redis) -> None:
    assert run_once.run(config) == 0
    Damage("actions", "hash", "'zz'").do(state_file(config.state_path, BAD))
    assert run_once.run(config) == 0
    assert (polls(config, BAD), polls(config, GOOD)) == (1, 2)
    assert [client.xlen(stream_key("hsm:actions", mdt)) for mdt in (BAD, GOOD)] == [1, 1]


def test_an_error_that_nobody_thought_of_ends_the_polling_of_its_mdt_only(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(config: Config, mdt: str, actions: Path) -> PollResult:
        if mdt == BAD:
            raise ValueError("what nobody\nthought of")
        return main.run_once(config, mdt, actions)

    monkeypatch.setattr(run_once, "run_once", fails)
    assert run_once.run(config) == 1
    assert (polls(config, BAD), polls(config, GOOD)) == (0, 1)
    told = capsys.readouterr()
    assert told.out.startswith(f"{GOOD}: 1 lines")
    assert f"ERROR hsm-action-shipper: {BAD}: an error that should not be possible" in told.err
    assert "Traceback" in told.err
    assert rf"hsm-action-shipper: {BAD}: ValueError: what nobody\x0athought of" in told.err.splitlines()


@pytest.mark.timeout(DEADLINE_S)
@pytest.mark.parametrize("put", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_keeps_no_other_mdt_waiting(
    config: Config, tmp_path: Path, put: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    actions = tmp_path / BAD / "hsm" / "actions"
    actions.unlink()
    put(actions)
    assert run_once.run(config) == 1
    told = capsys.readouterr()
    assert told.out.startswith(f"{GOOD}: 1 lines")
    assert f"{BAD}: poll failed: incomplete reading of {actions}: cannot open it: " in told.err


@pytest.mark.parametrize("hold", [True, False])
def test_the_file_is_closed_at_the_end(config: Config, tmp_path: Path, hold: bool) -> None:
    assert run_once.run(msgspec.structs.replace(config, hold_actions_file=hold)) == 0
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert [link for link in links if link.name == "actions" and link.is_relative_to(tmp_path)] == []


def test_maintenance_of_an_mdt_fails_in_one_line_where_nobody_thought_of_its_error(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __call__(self) -> None:
            raise ValueError("nobody thought of it")

    monkeypatch.setattr(maintain, "MaintenanceRun", Fails)
    with pytest.raises(HsmError, match="ValueError: nobody thought of it"):
        maintain._maintain(config, BAD, tmp_path, StopSignal())
    assert caplog.messages == [f"{BAD}: an error that should not be possible: please report it with these lines"]


def test_a_worker_says_what_nobody_thought_of_once_and_ends(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("nobody thought of \x1b[2J")

    monkeypatch.setattr(program, "load_config", lambda _: type("Loaded", (), {"config": config}))
    monkeypatch.setattr(program, "exit_with_parent", lambda: None)
    monkeypatch.setattr(main, "run", fails)
    assert main.main(["--mdt", BAD, "--actions", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.count(f"ERROR mdt-{BAD}: this process ends: an error that should not be possible") == 1
    assert r"ValueError: nobody thought of \x1b[2J" in told.splitlines()
