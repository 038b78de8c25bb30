"""`hsm-action-shipper check`: looks at everything that the shipper needs, and tells what to do about it.

It changes nothing, and needs no running shipper. What one check cannot see never keeps the others from looking.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from hsm_shipper.commands import findings as found
from hsm_shipper.commands.check_certificates import certificate_findings
from hsm_shipper.commands.check_earlier import earlier_findings
from hsm_shipper.commands.check_maintenance import maintenance_findings
from hsm_shipper.commands.check_redis import redis_findings
from hsm_shipper.commands.check_secrets import secrets_findings
from hsm_shipper.commands.check_sentinel import sentinel_findings
from hsm_shipper.commands.findings import Finding, Level, ok, problem, warning
from hsm_shipper.config import Config, LoadedConfig, load_config
from hsm_shipper.contract.heartbeat import took
from hsm_shipper.errors import ConfigError, NotRunning, StateError, SupervisorError
from hsm_shipper.lustre.actions_file import ActionsFile
from hsm_shipper.lustre.coordinator import mdt_folder, read_hsm_control, read_tunable
from hsm_shipper.lustre.mdts import Present, find_mdts
from hsm_shipper.process.output import print_out
from hsm_shipper.state.poll_status import read_poll_status, state_file
from hsm_shipper.state.room import free_bytes
from hsm_shipper.supervision.supervisord import Supervisor
from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.listing_scan import ListingScan
from hsm_shipper.worker.snapshot import new_lines_of

_EXAMPLE_BYTES = 300
_MIB = 1024 * 1024
# A state file of 350,000 live actions takes 28 MiB, and its log as much again.
_ROOM_FOR_AN_MDT_BYTES = 64 * _MIB
_NO_ROOM_BYTES = 8 * _MIB


def main(config_file: Path | None, *, as_json: bool) -> int:
    """Print every finding; returns the exit status, the worst level."""
    findings = list(check(config_file))
    print_out(found.to_json(findings) if as_json else found.to_text(findings))
    return int(found.worst(findings))


def check(config_file: Path | None) -> Iterator[Finding]:
    """Everything, in the order in which it matters."""
    try:
        loaded = load_config(config_file)
    except ConfigError as error:
        yield problem("configuration", error.message, error.hint or "correct it, then check again")
        return
    config = loaded.config
    yield from _configuration(loaded)
    yield from secrets_findings(loaded)
    present = find_mdts(config.mdt_watch_glob)
    yield from _mdts(config, present)
    yield from certificate_findings(config)
    yield from sentinel_findings(config)
    redis_found = list(redis_findings(config, next(iter(present.mdts), None)))
    yield from redis_found
    redis_answers = found.worst(redis_found) < Level.PROBLEM
    if redis_answers:
        yield from earlier_findings(config, present.mdts)
    yield from maintenance_findings(config, present.mdts, redis_answers=redis_answers)
    yield from _folder("state_dir", config.state_path)
    yield from _room(config.state_path, len(present.mdts))
    yield from _folder("run_dir", config.run_path)
    yield from _log(config)
    yield _shipper(config)


def _configuration(loaded: LoadedConfig) -> Iterator[Finding]:
    yield ok("configuration", str(loaded.file) if loaded.file else "no file: defaults and environment")
    for text in loaded.warnings:
        yield warning("configuration", text, "")  # it says itself what is not in use


def _mdts(config: Config, present: Present) -> Iterator[Finding]:
    for text in present.unreadable:
        yield problem("MDTs", text, "run as root: debugfs is root's alone")
    for text in present.remarks:
        yield warning("MDTs", text, "look at mdt_watch_glob")
    if not present.mdts and not present.unreadable:
        yield warning(
            "MDTs",
            f"none on this server: nothing matches {config.mdt_watch_glob}",
            "fine where an MDT may fail over to; else look whether Lustre and debugfs are mounted",
        )
    for mdt, actions in present.mdts.items():
        yield _actions_file(mdt, actions)
        yield _grace_delay(mdt, actions, config.poll_interval_s)
        yield from _coordinator(mdt, actions)
        yield from _last_poll(config, mdt)


def _actions_file(mdt: str, actions: Path) -> Finding:
    reading, scan = ActionsFile(actions).read(), ListingScan(LineIndex())
    begun = reading.taken_at
    for new in new_lines_of(reading, scan):
        scan.claim(new)
    if reading.fault is not None:
        return problem(mdt, f"incomplete reading of {actions}: {reading.fault}", "is the MDT mounted, and are we root?")
    if scan.example is not None:
        return _not_understood(mdt, actions, scan, scan.example)
    control = read_hsm_control(actions)
    state = f"coordinator {control}" if control else "coordinator's state not readable"
    first_read = f"first read {reading.taken_at - begun:.2f} s"
    if not scan.lines:
        return ok(mdt, f"{actions} is empty ({first_read}), {state}")
    return ok(mdt, f"{actions} is readable ({scan.lines:,} lines, {first_read}), {state}")


def _not_understood(mdt: str, actions: Path, scan: ListingScan, line: bytes) -> Finding:
    example = line[:_EXAMPLE_BYTES].decode(errors="replace")
    if scan.not_understood == scan.lines:
        return problem(mdt, f"{actions} holds no HSM actions, the first line: {example}", "look at mdt_watch_glob")
    count = f"{scan.not_understood:,} of {scan.lines:,} lines"
    why, advice = "", "a newer Lustre prints something new: please send us the line"
    if scan.example_lacks_place:  # of 100,000 random places of 32 bits a coordinator outside the kernel gives one twice
        why = ", whose place another line has too"
        advice = "the kernel gives each request a place of its own: ask whoever made the coordinator"
    return warning(mdt, f"{count} of {actions} are not understood, and not shipped, the first{why}: {example}", advice)


def _grace_delay(mdt: str, actions: Path, poll_interval_s: float) -> Finding:
    grace_delay_s = read_tunable(actions, "grace_delay")
    if grace_delay_s is None:
        return ok(mdt, f"grace_delay is not readable in {mdt_folder(actions) / 'hsm'}: poll_interval not compared")
    text = f"poll_interval {poll_interval_s:g} s, grace_delay {grace_delay_s} s"
    if poll_interval_s > grace_delay_s / 2:
        return warning(mdt, f"{text}: final statuses may be missed", "poll at least twice in a grace delay")
    return ok(mdt, text)


def _coordinator(mdt: str, actions: Path) -> Iterator[Finding]:
    control = read_hsm_control(actions)
    if control in ("stopped", "disabled"):
        yield warning(
            mdt,
            f"the coordinator is {control}: no action starts, and none that has ended leaves the list",
            f"unless that is meant: lctl set_param mdt.{mdt}.hsm_control=enabled",
        )


def _last_poll(config: Config, mdt: str) -> Iterator[Finding]:
    try:
        poll = read_poll_status(state_file(config.state_path, mdt))
    except StateError as error:
        yield warning(mdt, error.message, error.hint)
        return
    if poll is not None and poll.last_poll_duration_s > config.poll_interval_s:
        yield warning(
            mdt,
            f"the last poll took {took(poll.last_poll_duration_s, poll.last_poll_read_s)}, longer than poll_interval "
            f"({config.poll_interval_s:g} s): a rest follows each, and final statuses may be missed",
            f"raise poll_interval, or look what is slow: Redis, state_dir, or reading {poll.lines:,} lines",
        )


def _folder(key: str, path: Path) -> Iterator[Finding]:
    """Whether `path` can be used, or made: nothing is made here."""
    standing = _nearest_existing(path)
    if not standing.is_dir():
        yield problem(key, f"{standing} is no folder", f"set {key}")
    elif not os.access(standing, os.W_OK | os.X_OK):
        yield problem(key, f"cannot write in {standing}", "run as its owner, or change it")
    elif standing == path and path.stat().st_mode & stat.S_IWOTH:
        bad = problem if key == "run_dir" else warning  # the shipper does not start there
        yield bad(key, f"every user may write in {path}", f"chmod o-w {path}")
    elif standing == path:
        yield ok(key, f"{path} is writable")
    else:
        yield ok(key, f"{path} does not exist yet, and can be made")


def _room(state_dir: Path, mdts: int) -> Iterator[Finding]:
    try:
        room_bytes = free_bytes(_nearest_existing(state_dir))
    except OSError as error:
        yield problem("state_dir", f"cannot look at its file system: {error.strerror}", "check the mount")
        return
    text = f"{room_bytes / _MIB:,.0f} MiB free"
    if room_bytes < _NO_ROOM_BYTES:
        yield problem("state_dir", text, "make room: without it no event is shipped")
    elif room_bytes < _ROOM_FOR_AN_MDT_BYTES * max(1, mdts):
        yield warning("state_dir", text, f"make room: {_ROOM_FOR_AN_MDT_BYTES // _MIB} MiB for each MDT is safe")
    else:
        yield ok("state_dir", text)


def _log(config: Config) -> Iterator[Finding]:
    if config.log_file is None:
        return
    path = Path(config.log_file)
    standing = _nearest_existing(path)
    there = standing == path and not path.is_dir()
    if not (there or standing == path.parent) or not os.access(standing, os.W_OK):
        yield problem("log_file", f"cannot write {path}", "make its folder, or set log_file")
    else:
        yield ok("log_file", f"{path} is writable")


def _shipper(config: Config) -> Finding:
    try:
        return ok("shipper", f"running (pid {Supervisor(config.run_path, config.state_path).pid()})")
    except NotRunning:
        return ok("shipper", "not running")
    except SupervisorError as error:
        return problem("shipper", error.message, error.hint or "restart hsm-action-shipper")


def _nearest_existing(path: Path) -> Path:
    while not os.path.lexists(path):
        path = path.parent
    return path
