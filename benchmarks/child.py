"""Processes that do one thing over and over, and say each time how long it took and how much memory they ever had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.processes import peak_mb

_READY = "ready"
_STOP_TIMEOUT_S = 30.0


class BenchmarkError(Exception):
    """Something that was to be measured did not work; the message is one line."""


@dataclass(frozen=True)
class Run:
    """One measured run; `said` is what the work itself returned, `cpu_s` what its process took of a processor."""

    duration_s: float
    peak_mb: float
    said: Any = None
    cpu_s: float = 0.0


class Child:
    """`python -m MODULE ARGUMENTS…`, whose main ends in `serve`; ready to run once this is made."""

    def __init__(self, module: str, *arguments: str | Path) -> None:
        self._name = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent; the child ends with its standard input
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def run(self) -> Run:
        """Run it once more."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return Run(**json.loads(self._answer()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"{self._name} ended with exit status {self._process.wait()}")
        return line


def serve(work: Callable[[], Any], before: Callable[[], None] = lambda: None) -> None:
    """In the child: for each line of standard input do `before` and then, timed, `work`."""
    print(_READY, flush=True)
    for _ in sys.stdin:
        before()
        begun, cpu_begun = time.perf_counter(), time.process_time()
        said = work()
        duration_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_begun
        run = {"duration_s": duration_s, "peak_mb": peak_mb(os.getpid()), "said": said, "cpu_s": cpu_s}
        print(json.dumps(run), flush=True)
