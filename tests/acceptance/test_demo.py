"""The demo: a short run tells the truth, an interrupted one leaves nothing, and a stream that lies is found out."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.event import line_digest
from hsm_shipper.contract.kernel_line import parse_line
from hsm_shipper.worker.changes import Change, ChangeWriter
from hsm_shipper.worker.held_lines import NewLine
from tests.simulator import SimulatedMdt, populate
from tests.simulator.demo import EXIT_INTERRUPTED, EXIT_WRONG, conclude
from tests.simulator.demo_report import MdtReport, SimulatedVerdict
from tests.support.truth import digests_of
from tests.support.waiting import DEADLINE_S, eventually

MDT = "elm-MDT0000"
CHECKOUT = Path(__file__).parents[2]
_FOLDER = re.compile(r"below (/tmp/hsm-demo-\S+)")


def demo(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.simulator.demo", *arguments]
    return subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def left_running(folder: str) -> list[str]:
    """Command lines that name the demo's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if folder in command:
                found.append(command)
    return found


def folder_in(output: str) -> str:
    match = _FOLDER.search(output)
    assert match is not None, output
    return match[1]


def test_a_short_demo_tells_the_truth_and_leaves_nothing() -> None:
    with demo("--duration", "3", "--requests", "300") as process:
        output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, output
    rows = [line.split() for line in output.splitlines() if re.match(r"(elm-MDT000\d|all) +\d", line)]
    assert [row[0] for row in rows] == ["elm-MDT0000", "elm-MDT0001", "elm-MDT0002", "all"], output
    assert all(row[-2:] == ["0", "0"] for row in rows), output
    assert all(row[4] == row[5] != "0" for row in rows), output
    assert all(row[1] != "0" for row in rows), output
    assert len(re.findall(r"\[elm-MDT000\d\] \w+ +\w+ +-> \[0x", output)) > 10, "the tail is silent"
    assert len(re.findall(r"^elm-MDT000\d +RUNNING", output, re.MULTILINE)) == 2, output
    assert not Path(folder_in(output)).exists()
    assert left_running(folder_in(output)) == []


@pytest.fixture
def running() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo that has come to where its tail runs, and its folder."""
    with demo("--duration", "100", "--requests", "100") as process:
        assert process.stdout is not None
        folder = ""
        for line in process.stdout:
            if match := _FOLDER.search(line):
                folder = match[1]
            if "hsm-stream-tail follows" in line:
                break
        else:
            pytest.fail(f"the demo ended with {process.wait()}")
        yield process, folder
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def test_an_interrupted_demo_leaves_nothing(running: tuple[subprocess.Popen[str], str]) -> None:
    process, folder = running
    assert left_running(folder) != []
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == EXIT_INTERRUPTED, output
    assert "Traceback" not in output
    assert not Path(folder).exists()
    assert left_running(folder) == []


def test_a_killed_demo_leaves_no_process(running: tuple[subprocess.Popen[str], str]) -> None:
    process, folder = running
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: not left_running(folder))  # workers end their poll first


# What the demo says of a stream: pure


@pytest.fixture
def mdt() -> SimulatedMdt:
    """An MDT with ten requests."""
    mdt = SimulatedMdt(MDT)
    populate(mdt, 10)
    return mdt


def history(mdt: SimulatedMdt) -> list[Change]:
    """What a shipper would have appended: ten requests, then one that changes and one that ends."""
    writer = ChangeWriter(MDT, "mds1")
    changes = [writer.state(new_line(line), None, 1) for line in mdt.lines()]
    first, second = mdt.records()[:2]
    mdt.set_status(first, "STARTED")
    mdt.remove(second)
    changes.append(writer.state(new_line(first.line), after(changes[0]), 2))
    changes.append(writer.purged(after(changes[1]), 2))
    return changes


def new_line(line: bytes) -> NewLine:
    record = parse_line(line)
    assert record is not None
    return NewLine(line, line_digest(line), record)


def after(change: Change) -> ActionState:
    assert change.after is not None
    return change.after


def report(mdt: SimulatedMdt, changes: list[Change]) -> MdtReport:
    verdict = SimulatedVerdict()
    for number, change in enumerate(changes):
        verdict.add(f"{number}-0", change.payload)
    return MdtReport(MDT, verdict, digests_of(mdt.listing()))


def test_a_true_stream(mdt: SimulatedMdt, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(mdt, history(mdt))
    assert found.row() == [10, 1, 1, 9, 9, 0, 0]
    assert conclude([found]) == 0
    assert "tells the truth" in capsys.readouterr().out


def without(index: int) -> Callable[[list[Change]], list[Change]]:
    def spoil(changes: list[Change]) -> list[Change]:
        del changes[index]
        return changes

    return spoil


def again(index: int) -> Callable[[list[Change]], list[Change]]:
    return lambda changes: [*changes, changes[index]]


@pytest.mark.parametrize(
    ("spoil", "differ", "false"),
    [
        pytest.param(without(5), 1, 0, id="a NEW is lost"),
        pytest.param(without(-2), 1, 0, id="an UPDATE is lost"),
        pytest.param(without(-1), 1, 0, id="a PURGED is lost"),
        pytest.param(again(5), 0, 1, id="a NEW twice"),
        pytest.param(again(-2), 0, 1, id="an UPDATE twice"),
        pytest.param(again(-1), 0, 1, id="a PURGED twice"),
        pytest.param(again(1), 1, 1, id="back after its PURGED"),
    ],
)
def test_a_stream_that_lies_is_found_out(
    mdt: SimulatedMdt,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[list[Change]], list[Change]],
    differ: int,
    false: int,
) -> None:
    found = report(mdt, spoil(history(mdt)))
    assert found.row()[-2:] == [differ, false]
    assert conclude([found]) == EXIT_WRONG
    assert "WRONG" in capsys.readouterr().out
