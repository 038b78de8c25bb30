"""`make bench`, `python -m benchmarks`: what shipper and tools cost, beside the least that it could be."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.utils import HIREDIS_AVAILABLE

from benchmarks import maintaining, polling, seeing
from benchmarks.child import BenchmarkError
from benchmarks.rows import table
from tests.support.servers import RedisServer

_SUBJECTS = {"polling": polling.measure, "maintaining": maintaining.measure, "seeing": seeing.measure}

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
        figures = {}
        for subject in options.subjects or _SUBJECTS:
            measure = _SUBJECTS[subject]
            print(f"{subject}: {options.lines:,} lines, {options.repetitions} repetitions …", flush=True)
            rows = measure(folder, server, options.lines, options.repetitions)
            print(table(rows), flush=True)
            figures[subject] = [row.for_machines() for row in rows]
    finally:
        server.kill()
    if options.json is not None:
        report = {"lines": options.lines, "machine": machine, "subjects": figures}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def _machine(server: RedisServer) -> dict[str, Any]:
    with server.client() as client:
        info = client.info("server")
    return {
        "Python": platform.python_version(),
        "redis-py": redis.__version__,
        info.get("server_name", "redis"): info.get("valkey_version", info["redis_version"]),
        "CPUs": os.cpu_count(),
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what shipper and tools cost, beside floors: the least that the same work could cost, "
        "measured in the same run. Aims that are missed are shown; the exit status does not depend on them.",
    )
    parser.add_argument(
        "subjects", nargs="*", type=_subject, metavar="SUBJECT", help=f"{', '.join(_SUBJECTS)} (default: all)"
    )
    parser.add_argument(
        "--lines", type=_count, default=350_000, metavar="N", help="lines of the list (default: 350000)"
    )
    parser.add_argument(
        "--repetitions", type=_count, default=3, metavar="N", help="how often it is measured (default: 3)"
    )
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
