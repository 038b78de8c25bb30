"""`make bench`, `python -m benchmarks`: what shipper and tools cost, beside the least that it could be."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import redis
from redis.utils import HIREDIS_AVAILABLE

from benchmarks import (
    figures,
    growing,
    idling,
    maintaining,
    polling,
    rows,
    scaling,
    seeing,
    starting,
    storing,
)
from benchmarks.child import BenchmarkError
from tests.support.servers import RedisServer


class _Subject(NamedTuple):
    measure: Callable[..., Sequence[rows.Row] | Sequence[figures.Figure]]
    lines: int = 350_000
    repetitions: int = 3
    mdts: int | None = None
    """By default, where it is about many MDTs."""
    has_plot: bool = False
    is_long: bool = False
    """Only done where it is named."""


_SUBJECTS = {
    "polling": _Subject(polling.measure),
    "maintaining": _Subject(maintaining.measure),
    "seeing": _Subject(seeing.measure),
    "starting": _Subject(starting.measure, lines=1_000),
    "storing": _Subject(storing.measure, lines=100_000, repetitions=1),
    "growing": _Subject(growing.measure, lines=2_000_000, repetitions=1, has_plot=True, is_long=True),
    "scaling": _Subject(scaling.measure, lines=25_000, repetitions=1, mdts=40, is_long=True),
    "idling": _Subject(idling.measure, lines=100, repetitions=2, mdts=200, is_long=True),
}
_LONG = [name for name, subject in _SUBJECTS.items() if subject.is_long]

# What is deleted between runs is freed before the next one begins, and not beside it.
_SERVER_OPTIONS = {"lazyfree-lazy-user-del": "no", "lazyfree-lazy-user-flush": "no"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every benchmark; 0 unless something did not work, however long it took."""
    options = _parse(arguments)
    if not HIREDIS_AVAILABLE:
        print("warning: hiredis is not installed, so the figures are not those of an installation", file=sys.stderr)
    try:
        with tempfile.TemporaryDirectory(prefix="hsm-bench-") as name:
            _run(Path(name), options)
    except (BenchmarkError, OSError, AssertionError, redis.RedisError) as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(folder: Path, options: argparse.Namespace) -> None:
    server = RedisServer(folder / "valkey", _SERVER_OPTIONS).start()
    try:
        machine = _machine(server)
        print(", ".join(f"{name} {value}" for name, value in machine.items()))
        measured = {
            name: _measure(name, folder, server, options)
            for name in options.subjects or [name for name in _SUBJECTS if name not in _LONG]
        }
    finally:
        server.kill()
    if options.json is not None:
        lists = {name: {"mdts": found.mdts, "lines": found.lines} for name, found in measured.items()}
        subjects = {name: [row.for_machines() for row in found.rows] for name, found in measured.items()}
        report = {"lists": lists, "machine": machine, "subjects": subjects}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


class _Measured(NamedTuple):
    mdts: int
    lines: int
    rows: Sequence[rows.Row] | Sequence[figures.Figure]


def _measure(name: str, folder: Path, server: RedisServer, options: argparse.Namespace) -> _Measured:
    subject = _SUBJECTS[name]
    lines = options.lines or subject.lines
    repetitions = options.repetitions or subject.repetitions
    more: dict[str, Any] = {}
    extent = f"{lines:,} lines, {repetitions} repetition{'' if repetitions == 1 else 's'}"
    if subject.mdts is not None:
        more["mdts"] = options.mdts or subject.mdts
        extent = f"{more['mdts']} MDTs, {extent}"
    if subject.has_plot:
        more["plot"] = options.plot
    print(f"{name}: {extent} …", flush=True)
    found = subject.measure(folder, server, lines, repetitions, **more)
    print(_table(found), flush=True)
    return _Measured(more.get("mdts", 1), lines, found)


def _table(found: Sequence[rows.Row] | Sequence[figures.Figure]) -> str:
    durations = [row for row in found if isinstance(row, rows.Row)]
    return (
        rows.table(durations) if durations else figures.table([row for row in found if isinstance(row, figures.Figure)])
    )


def _machine(server: RedisServer) -> dict[str, Any]:
    with server.client() as client:
        info, info_memory = client.info("server"), client.info("memory")
    return {
        "Python": platform.python_version(),
        "redis-py": redis.__version__,
        info.get("server_name", "redis"): info.get("valkey_version", info["redis_version"]),
        "allocator": info_memory["mem_allocator"],
        "CPUs": os.cpu_count(),
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what shipper and tools cost, beside floors: the least that the same work could cost, "
        "measured in the same run. Aims that are missed are shown; the exit status does not depend on them.",
    )
    parser.add_argument(
        "subjects",
        nargs="*",
        type=_subject,
        metavar="SUBJECT",
        help=f"{', '.join(_SUBJECTS)} (default: all but {', '.join(_LONG)})",
    )
    parser.add_argument(
        "--lines", type=_count, metavar="N", help="lines of each list (default: by the subject, most often 350000)"
    )
    parser.add_argument(
        "--repetitions", type=_count, metavar="N", help="how often it is measured (default: by the subject, often 3)"
    )
    parser.add_argument("--mdts", type=_count, metavar="N", help="MDTs of scaling (default: 40) and idling (200)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what growing finds, as SVG")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    return parser.parse_args(arguments)


def _subject(text: str) -> str:
    if text not in _SUBJECTS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(_SUBJECTS)}")
    return text


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
