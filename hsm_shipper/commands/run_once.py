"""`--run-once`: one poll of every MDT in this process, for cron, tests and first looks; with maintenance if asked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from hsm_shipper.config import Config
from hsm_shipper.errors import HsmError, StreamRefused
from hsm_shipper.lustre.mdts import find_mdts
from hsm_shipper.process import log
from hsm_shipper.process.output import SHIPPER, OutputLines, say
from hsm_shipper.state.forget import forget, stored_mdts
from hsm_shipper.state.locks import ONCE
from hsm_shipper.supervision.launch import shipper_lock
from hsm_shipper.worker.main import run_once
from hsm_shipper.worker.poll_result import PollResult

_log = logging.getLogger(__name__)


def run(config: Config, *, maintenance_now: bool = False) -> int:
    """Poll every MDT on this server once, print a line for each, and return the exit status.

    With `maintenance_now` each poll is followed by a maintenance run, and by the poll that makes its healing true.
    Refuses beside a running shipper by raising `AlreadyRunning`.
    """
    log.setup(SHIPPER, config)
    lines = OutputLines()
    with shipper_lock(config) as lock:
        lock.write_pid(ONCE)
        present = find_mdts(config.mdt_watch_glob)
        troubles = list(present.unreadable)
        for remark in present.remarks:
            say(remark)
        if not present.mdts and not troubles:
            say(f"no MDT on this server: nothing matches {config.mdt_watch_glob}")
        for mdt, actions in present.mdts.items():
            try:
                for line in _guarded(mdt, _steps(config, mdt, actions, maintenance_now=maintenance_now)):
                    lines.print_out(line)
            except _StepFailed as error:
                troubles.append(f"{mdt}: {error}")
        if not present.unreadable:
            troubles += _forget_absent(config, frozenset(present.mdts))
        for trouble in troubles:
            say(trouble)
    lines.finish()
    return 1 if troubles else 0


class _StepFailed(HsmError):
    """What failed, and how."""


def _guarded(mdt: str, steps: Iterator[str]) -> Iterator[str]:
    """The same lines; whatever else goes wrong is a `_StepFailed` too, for the other MDTs are to be polled."""
    try:
        yield from steps
    except HsmError:
        raise
    except Exception as error:
        raise _StepFailed(str(log.our_fault(_log, mdt, error))) from error


def _steps(config: Config, mdt: str, actions: Path, *, maintenance_now: bool) -> Iterator[str]:
    """Do what is to be done with one MDT, telling a line for each step. Raises `_StepFailed`, and ends with it.

    Maintenance runs where Redis refused the poll, too: it makes room where that is what is wanting. A line that is not
    understood holds up nothing, and yet is a failure at the end: what it says is not shipped, and whoever looks at the
    exit status alone takes 0 for all of the list.
    """
    refused: _StepFailed | None = None
    try:
        result = _poll(config, mdt, actions)
        yield str(result)
    except _StepFailed as error:
        if not maintenance_now or not isinstance(error.__cause__, StreamRefused):
            raise
        refused = error
    if maintenance_now:
        yield _maintain(config, mdt, actions)
        result = _poll(config, mdt, actions)
        yield str(result)
    if refused is not None:
        raise refused
    if result.lines_not_understood:
        count = f"{result.lines_not_understood:,} of {result.lines:,} lines of {actions}"
        raise _StepFailed(f"{count} are not understood, and not shipped; all the others are")


def _maintain(config: Config, mdt: str, actions: Path) -> str:
    from hsm_shipper.maintenance.run import MaintenanceRun

    try:
        return str(MaintenanceRun(config, mdt, actions, stopping=lambda: False)())
    except HsmError as error:
        raise _StepFailed(f"maintenance failed: {error}") from None


def _poll(config: Config, mdt: str, actions: Path) -> PollResult:
    try:
        return run_once(config, mdt, actions)
    except HsmError as error:
        raise _StepFailed(f"poll failed: {error}") from error


def _forget_absent(config: Config, present: frozenset[str]) -> list[str]:
    """As discovery does: an MDT that has left takes nothing with it but its state here."""
    troubles = []
    for mdt in sorted(stored_mdts(config.state_path) - present):
        try:
            forget(config.state_path, mdt)
        except HsmError as error:
            troubles.append(f"{mdt}: {error}")
    return troubles
