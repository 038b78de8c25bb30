"""`hsm-action-shipper status`: how each MDT is doing, from supervisord and the state files, running or not."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from hsm_shipper.config import Config
from hsm_shipper.contract.heartbeat import MISSED_POLLS, late_after_s, poll_troubles
from hsm_shipper.contract.redis_keys import is_mdt_name
from hsm_shipper.contract.slots import Slots
from hsm_shipper.errors import ConfigError, NotRunning, StateError, StreamError, SupervisorError
from hsm_shipper.lustre.coordinator import lost_slots
from hsm_shipper.lustre.mdts import find_mdts
from hsm_shipper.process.durations import in_one_unit
from hsm_shipper.process.last_look import look_age_s
from hsm_shipper.process.output import print_out, printable
from hsm_shipper.state.maintenance_log import RecordedRun, last_runs
from hsm_shipper.state.poll_status import PollStatus, read_poll_status, state_file, state_files
from hsm_shipper.supervision.discovery import worker_programs
from hsm_shipper.supervision.supervisord import DISCOVERY, WORKER_PREFIX, Program, Supervisor

_MAINTENANCE = "maintenance"
# A look may wait for a supervisord that is busy, or for a Redis that does not answer.
_HANGS_AFTER_S = 60.0

EXIT_OK = 0
EXIT_TROUBLE = 1
EXIT_NOT_RUNNING = 2

_HEADERS = ("MDT", "worker", "last poll", "duration", "read", "lines", "live", "shipped", "backlog", "last error")
_MAINTENANCE_HEADERS = ("MDT", "maintained", "duration", "entries", "healed", "malformed", "trimmed", "length")
_MAINTENANCE_ALIGN = ("left", "left", *("right",) * 6)
_ALIGN = ("left", "left", "left", "right", "right", "right", "right", "right", "right", "left")


@dataclass(frozen=True)
class MdtStatus:
    """One MDT: whether it is on this server, its worker in supervisord, its last poll, and what is wrong.

    `maintenance` is its last maintenance run here, if there was one.
    """

    mdt: str
    present: bool
    worker: Program | None
    poll_age_s: float | None
    stale: bool
    troubles: tuple[str, ...]
    poll: PollStatus | None
    maintenance: RecordedRun | None


@dataclass(frozen=True)
class Status:
    """Everything that `status` prints. `supervisord` is why it cannot be asked, or None."""

    supervisord: str | None
    running: bool
    discovery: Program | None
    maintenance: Program | None
    mdts: tuple[MdtStatus, ...]
    troubles: tuple[str, ...]
    primary: str | None
    """Host and port of the primary, where Sentinels are configured and name one."""

    @property
    def exit_status(self) -> int:
        """0 all polling, 1 something is wrong, 2 nothing runs."""
        if not self.running:
            return EXIT_NOT_RUNNING
        return EXIT_TROUBLE if self.troubles or any(mdt.troubles for mdt in self.mdts) else EXIT_OK


def main(config: Config, *, as_json: bool) -> int:
    """Print the status; returns the exit status."""
    now = time.time()
    status = gather(config, now)
    print_out(to_json(status, config) if as_json else to_text(status, now))
    return status.exit_status


def gather(config: Config, now: float) -> Status:
    """Look at supervisord, the MDTs and the state files; `now` in seconds since the epoch."""
    troubles: list[str] = []
    programs: dict[str, Program] = {}
    supervisord, running = None, True
    try:
        programs = Supervisor(config.run_path, config.state_path).programs()
    except SupervisorError as error:
        supervisord, running = str(error), not isinstance(error, NotRunning)
        troubles.append(supervisord)
    asked = supervisord is None
    discovery, maintenance = programs.get(DISCOVERY), programs.get(_MAINTENANCE)
    if asked:
        looked = partial(look_age_s, config.run_path, now=now)
        late_s = max(_HANGS_AFTER_S, MISSED_POLLS * config.poll_interval_s)
        for name, program, consequence in (
            (DISCOVERY, discovery, "MDTs that come are not noticed"),
            (_MAINTENANCE, maintenance, "streams are not healed, and grow"),
        ):
            troubles += _program_troubles(name, program, consequence, looked(name), late_s)
    present = find_mdts(config.mdt_watch_glob)
    troubles += present.unreadable
    workers = worker_programs(programs)
    mdts = sorted(present.mdts.keys() | workers.keys() | _stored(config, troubles))
    runs = _last_runs(config, troubles)
    lost = lost_slots(present.mdts)
    rows = tuple(
        _mdt_status(config, mdt, mdt in present.mdts, workers.get(mdt), runs.get(mdt), lost.get(mdt), now, asked=asked)
        for mdt in mdts
    )
    primary = _primary(config, troubles)
    return Status(supervisord, running, discovery, maintenance, rows, tuple(troubles), primary)


def _primary(config: Config, troubles: list[str]) -> str | None:
    if not config.redis_address.is_sentinel:
        return None
    from hsm_shipper.stream.connection import primary_now  # late: redis-py takes 0.3 s, and few need it here

    try:
        return primary_now(config)
    except (ConfigError, StreamError) as error:
        troubles.append(str(error))
        return None


def _program_troubles(
    name: str, program: Program | None, consequence: str, looked_s: float | None, late_s: float
) -> list[str]:
    """What is wrong with a program that last looked `looked_s` ago, or never; that is to be no more than `late_s`.

    A look before its start was its predecessor's.
    """
    if program is None or program.state not in ("STARTING", "RUNNING"):
        return [f"{name} {_how(program, name) if program else 'is missing'}: {consequence}"]
    silent_s = program.uptime_s if looked_s is None else min(looked_s, program.uptime_s)
    if silent_s <= late_s:
        return []
    return [f"{name} has not looked for {in_one_unit(silent_s)} and hangs: {consequence}"]


def _how(program: Program, name: str) -> str:
    """What a program is that does not run; of one that has ended by itself, `name` in the log has said why."""
    ended = program.state in ("BACKOFF", "EXITED", "FATAL")
    return f"is {program.state}" + (f" (why: the last line of {name} in the log)" if ended else "")


def _stored(config: Config, troubles: list[str]) -> set[str]:
    try:
        return set(filter(is_mdt_name, state_files(config.state_path)))
    except StateError as error:
        troubles.append(str(error))
        return set()


def _last_runs(config: Config, troubles: list[str]) -> dict[str, RecordedRun]:
    try:
        return last_runs(config.state_path)
    except StateError as error:
        troubles.append(str(error))
        return {}


def _mdt_status(
    config: Config,
    mdt: str,
    present: bool,
    worker: Program | None,
    maintenance: RecordedRun | None,
    lost: Slots | None,
    now: float,
    *,
    asked: bool,
) -> MdtStatus:
    troubles = []
    poll = None
    try:
        poll = read_poll_status(state_file(config.state_path, mdt))
    except StateError as error:
        troubles.append(str(error))
    # A clock that was set back makes no poll of the future.
    age_s = max(0.0, now - poll.last_poll_at) if poll else None
    overdue = None if poll is None else _overdue(poll, now, config.poll_interval_s)
    if asked and worker is None:
        troubles.append("no worker" if present else "not on this server: its state is about to be removed")
    if worker is not None and worker.state != "RUNNING":
        troubles.append(f"worker {_how(worker, WORKER_PREFIX + mdt)}")
    if present and asked and poll is None and not troubles:
        troubles.append("not polled yet")
    if overdue is not None:
        troubles.append(overdue)
    if poll is not None:
        troubles += poll_troubles(
            poll.error,
            poll.last_poll_duration_s,
            poll.last_poll_read_s,
            config.poll_interval_s,
            poll.lines,
            poll.lines_not_understood,
        )
    if lost is not None:
        troubles.append(str(lost))
    if maintenance is not None and maintenance.error is not None:
        troubles.append(f"last maintenance failed: {maintenance.error}")
    return MdtStatus(mdt, present, worker, age_s, overdue is not None, tuple(troubles), poll, maintenance)


def _overdue(poll: PollStatus, now: float, poll_interval_s: float) -> str | None:
    """That there should have been another poll; one that lies so far ahead is of before the clock was set back."""
    if abs(now - poll.last_poll_at) <= late_after_s(poll_interval_s, poll.last_poll_duration_s):
        return None
    return "no poll for a long time" if now > poll.last_poll_at else "no poll since the clock was set back"


def to_text(status: Status, now: float) -> str:
    """A table for people, below it the last maintenance runs, and what is wrong."""
    from tabulate import tabulate

    lines = []
    if status.mdts:
        rows = [_row(status, mdt, now) for mdt in status.mdts]
        lines.append(tabulate(rows, _HEADERS, colalign=_ALIGN, disable_numparse=True))
    else:
        lines.append("no MDT on this server")
    runs = [mdt.maintenance for mdt in status.mdts if mdt.maintenance is not None]
    if runs:
        rows = [_maintenance_row(run, now) for run in runs]
        lines += ["", tabulate(rows, _MAINTENANCE_HEADERS, colalign=_MAINTENANCE_ALIGN, disable_numparse=True)]
    if status.primary is not None:
        lines += ["", printable(f"Redis: the Sentinels name {status.primary} as the primary")]
    lines += [printable(f"{mdt.mdt}: {trouble}") for mdt in status.mdts for trouble in mdt.troubles]
    lines += [printable(trouble) for trouble in status.troubles]
    return "\n".join(lines)


def _row(status: Status, mdt: MdtStatus, now: float) -> tuple[str, ...]:
    worker = "unknown" if status.supervisord and status.running else "none" if mdt.worker is None else mdt.worker.state
    poll = mdt.poll
    if poll is None:
        return (mdt.mdt, worker, "never", *("-" for _ in _HEADERS[3:]))
    return (
        mdt.mdt,
        worker,
        f"{in_one_unit(mdt.poll_age_s or 0.0)} ago" + (" (stale)" if mdt.stale else ""),
        f"{poll.last_poll_duration_s:.2f} s",
        "-" if poll.last_poll_read_s is None else f"{poll.last_poll_read_s:.2f} s",
        f"{poll.lines:,}",
        f"{poll.live:,}",
        f"{poll.events_shipped:,}",
        _backlog(poll, now),
        _last_error(poll, now),
    )


def _maintenance_row(run: RecordedRun, now: float) -> tuple[str, ...]:
    ago = f"{in_one_unit(max(0.0, now - run.started_at))} ago"
    took = f"{run.duration_s:.2f} s"
    if run.error is not None:
        return (run.mdt, f"{ago} (failed)", took, *("-" for _ in _MAINTENANCE_HEADERS[3:]))
    counts = (run.entries, run.healed, run.malformed, run.trimmed, run.length)
    return (run.mdt, ago, took, *("-" if count is None else f"{count:,}" for count in counts))


def _backlog(poll: PollStatus, now: float) -> str:
    """How many changes wait, and for how long the first of them does."""
    since = poll.backlog_since
    return f"{poll.backlog:,}" + ("" if since is None else f" ({in_one_unit(max(0.0, now - since))})")


def _last_error(poll: PollStatus, now: float) -> str:
    if poll.last_error is None or poll.last_error_at is None:
        return "-"
    text = printable(poll.last_error)
    shown = text if len(text) <= 60 else text[:59] + "…"
    return f"{in_one_unit(max(0.0, now - poll.last_error_at))} ago: {shown}"


def to_json(status: Status, config: Config) -> str:
    """One JSON object. Times are seconds since the epoch; what is not known is null."""
    return json.dumps(
        {
            "ok": status.exit_status == EXIT_OK,
            "running": status.running,
            "troubles": status.troubles,
            "redis": {"address": str(config.redis_address), "primary": status.primary},
            "discovery": _program(status.discovery),
            "maintenance": _program(status.maintenance),
            "poll_interval_s": config.poll_interval_s,
            "state_dir": config.state_dir,
            "run_dir": config.run_dir,
            "mdts": [
                vars(mdt)
                | {
                    "worker": _program(mdt.worker),
                    "poll": _poll(mdt.poll),
                    "maintenance": _maintenance(mdt.maintenance),
                }
                for mdt in status.mdts
            ],
        },
        indent=2,
    )


def _program(program: Program | None) -> dict[str, Any] | None:
    return None if program is None else program._asdict()


def _poll(poll: PollStatus | None) -> dict[str, Any] | None:
    return None if poll is None else msgspec.structs.asdict(poll) | {"events_shipped": poll.events_shipped}


def _maintenance(run: RecordedRun | None) -> dict[str, Any] | None:
    return None if run is None else msgspec.structs.asdict(run) | {"healed": run.healed}
