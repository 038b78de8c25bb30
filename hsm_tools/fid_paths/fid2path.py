"""Asking Lustre for the paths of FIDs: the ways to ask there are, and what their answers mean.

A way is a command that is given a mount point and FIDs. The best one is liblustreapi in a small process of its own
(`lustreapi`), which can be killed when an MDT does not answer; else `lfs fid2path` as its release allows:

- with `--print-fid` and `--print0` an answer names its FID and ends with a NUL, which no path holds;
- without `--print0` answers end with a newline, which a name may hold. Every FID must then be found in just one place:
  once at the start of a line, or once in a complaint on stderr, which holds no names. If not, it is asked on its own;
- without `--print-fid` each FID is asked on its own.

Of a file with several hard links the first is shown (`--link 0`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hsm_shipper.errors import HsmError
from hsm_shipper.process.privacy import without_secrets

# 100 take `lfs` about 0.3 s, most of which is its start; 1,000 take 1.8 s, longer than anyone holds an event back.
_BATCH_FIDS = 100
# A batch takes a fraction of it: an MDT that needs longer does not answer at all.
TIMEOUT_S = 5.0
# After SIGKILL: a process that waits in the kernel for a server does not end at once.
_DEATH_TIMEOUT_S = 0.5

# Those who ask are not allowed to: the answer to every FID is the same.
_NOT_ALLOWED = (errno.EPERM, errno.EACCES)

_FID = re.compile(r"0x[0-9a-fA-F]{1,16}:0x[0-9a-fA-F]{1,8}:0x[0-9a-fA-F]{1,8}")
_FIDS_IN_BYTES = re.compile(_FID.pattern.encode() + rb"(?![0-9a-fA-F])")

Answers = dict[str, str | None]
"""The path of each FID, absolute; None for one that Lustre says it has no path for."""


def is_fid(text: str) -> bool:
    """Whether `text` is a FID without brackets: nothing else is ever handed to a command."""
    return _FID.fullmatch(text) is not None


class Fid2PathFailed(HsmError):
    """No way could be made to answer; `is_final` if there is none on this machine."""

    def __init__(self, message: str, hint: str = "", *, is_final: bool = False) -> None:
        super().__init__(message, hint)
        self.is_final = is_final


class ProgramRun(NamedTuple):
    """What became of a command; a negative status is a signal."""

    status: int
    stdout: bytes
    stderr: bytes


class Way(NamedTuple):
    """How to ask: the command before the mount point, how many FIDs at a time, and what it means by what it prints.

    `understand` returns the answers that are certain; a FID that is not in them has none.
    """

    name: str
    command: tuple[str, ...]
    batch_max: int
    understand: Callable[[list[str], ProgramRun], Answers]


def understand_nul(fids: list[str], run: ProgramRun) -> Answers:
    r"""Records `FID path\0`; what is not ended was cut off."""
    answers: Answers = _complaints(fids, run)
    for record in run.stdout.split(b"\0")[:-1]:
        fid, path = _fid_and_path(record)
        if path and fid in fids:
            answers[fid] = _text(path)
    return answers


def without_room(fids: list[str], run: ProgramRun) -> list[str]:
    r"""Of what the library was asked for, what it has a path of and no room: records `FID \0`."""
    records = map(_fid_and_path, run.stdout.split(b"\0")[:-1])
    return [fid for fid, path in records if not path and fid in fids]


def understand_lines(fids: list[str], run: ProgramRun) -> Answers:
    r"""Lines `FID path\n` of names that may hold newlines: only if there is no other reading of them, else nothing."""
    gone = _complaints(fids, run)
    lines = [_fid_and_path(line) for line in run.stdout.split(b"\n")[:-1]]
    if not lines:
        return gone
    went_through_all = run.status == 0 or (run.status > 0 and bool(gone))
    each_once = Counter([*gone, *(fid for fid, _path in lines)]) == Counter(fids)
    return gone | {fid: _text(path) for fid, path in lines} if went_through_all and each_once else {}


def understand_single(fids: list[str], run: ProgramRun) -> Answers:
    """All of stdout is one path, whatever it holds."""
    [fid] = fids
    if run.status == 0 and run.stdout.endswith(b"\n"):
        return {fid: _text(run.stdout[:-1])}
    return _complaints(fids, run)


def _fid_and_path(record: bytes) -> tuple[str, bytes]:
    fid, _, path = record.partition(b" ")
    return fid.decode(errors="replace").strip("[]"), path


def _complaints(fids: list[str], run: ProgramRun) -> Answers:
    """Every FID that stderr names: there are only FIDs and the mount point in it, no names."""
    named = {fid.decode() for fid in _FIDS_IN_BYTES.findall(run.stderr)}
    return {fid: None for fid in fids if fid in named} if run.status else {}


def _text(path: bytes) -> str:
    """A path as text; bytes that are no UTF-8 show as escapes."""
    return path.decode(errors="backslashreplace")


LIBRARY = Way(
    "liblustreapi",
    (sys.executable, "-I", "-S", str(Path(__file__).with_name("lustreapi.py"))),
    _BATCH_FIDS,
    understand_nul,
)
SINGLE = Way("lfs, one FID at a time", ("lfs", "fid2path", "--link", "0"), 1, understand_single)
WAYS = (
    LIBRARY,
    Way("lfs", ("lfs", "fid2path", "-f", "-0", "--link", "0"), _BATCH_FIDS, understand_nul),
    Way("lfs without --print0", ("lfs", "fid2path", "-f", "--link", "0"), _BATCH_FIDS, understand_lines),
    SINGLE,
)


class Fid2Path:
    """Asks for the paths of one file system; `ask` from one thread, `close` from any."""

    def __init__(self, folder: str, timeout_s: float = TIMEOUT_S) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._way: Way | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._starting = threading.Lock()
        self.complaint: str | None = None
        """Why the last answers hold no path although the files may exist: permissions, mostly."""

    @property
    def batch_max(self) -> int:
        """How many FIDs can be asked for at a time."""
        return _BATCH_FIDS if self._way is None else self._way.batch_max

    def ask(self, fids: list[str]) -> Answers:
        """The answers to some of `fids`, at most `batch_max` of them; the others are not known.

        Takes no longer than a few times the timeout; `Fid2PathFailed` if none is answered.
        """
        if self._way is not None:
            return self._ask_by(self._way, fids)
        reasons = []
        for way in WAYS:
            some = fids[: way.batch_max]
            try:
                run = self._run(way, some)
            except (FileNotFoundError, PermissionError):
                continue
            if way is LIBRARY and run.status == errno.ELIBACC:
                continue
            answers = self._understand(way, some, run)
            if answers:
                self._way = way
                return self._noted(answers, run)
            reasons.append(_last_words(run))
        if not reasons:
            hint = "install the Lustre client's tools, or give --no-paths"
            raise Fid2PathFailed("there is neither liblustreapi nor the command lfs", hint, is_final=True)
        raise Fid2PathFailed(f"lfs fid2path {self._folder} fails: {reasons[-1]}", "check the mount point")

    def close(self) -> None:
        """Kill what runs, and start nothing more."""
        with self._starting:
            self._closed = True
            if self._child is not None:
                self._child.kill()

    def _ask_by(self, way: Way, fids: list[str]) -> Answers:
        try:
            run = self._run(way, fids)
            answers = self._understand(way, fids, run)
        except (FileNotFoundError, PermissionError) as error:
            raise Fid2PathFailed(f"{way.command[0]} cannot be run any more: {error.strerror}") from None
        if not answers:
            raise Fid2PathFailed(f"{way.name} for {self._folder} fails: {_last_words(run)}", "check the mount point")
        return self._noted(answers, run)

    def _understand(self, way: Way, fids: list[str], run: ProgramRun) -> Answers:
        """What a way answered; where that has several readings, each FID is asked for on its own."""
        answers = way.understand(fids, run)
        if way is LIBRARY:
            return answers | self._long_paths(without_room(fids, run))
        if answers or way.understand is not understand_lines:
            return answers
        is_ambiguous = any(_fid_and_path(line)[0] in fids for line in run.stdout.split(b"\n"))
        return self._one_by_one(fids) if is_ambiguous else answers

    def _long_paths(self, fids: list[str]) -> Answers:
        """The paths that only `lfs` may tell, if it is there; None for those that it does not."""
        answers: Answers = dict.fromkeys(fids)
        with contextlib.suppress(FileNotFoundError, PermissionError, Fid2PathFailed):
            answers |= self._one_by_one(fids)
        return answers

    def _one_by_one(self, fids: list[str]) -> Answers:
        """As many as the timeout allows."""
        until_s = time.monotonic() + self._timeout_s
        answers: Answers = {}
        for fid in fids:
            answers |= SINGLE.understand([fid], self._run(SINGLE, [fid]))
            if time.monotonic() >= until_s:
                break
        return answers

    def _noted(self, answers: Answers, run: ProgramRun) -> Answers:
        futile = run.status not in (0, errno.ENOENT) and not any(answers.values())
        hint = "; run it as root, or mount the file system with user_fid2path" if run.status in _NOT_ALLOWED else ""
        self.complaint = f"{_last_words(run)}{hint}" if futile else None
        return answers

    def _run(self, way: Way, fids: list[str]) -> ProgramRun:
        """Run a command to its end, or for the timeout; it may turn out not to be there."""
        child = self._start(way, fids)
        try:
            out, err = child.communicate(timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            self._end(child)
            raise Fid2PathFailed(f"{way.name} gave no answer within {self._timeout_s:g} s", "is an MDT down?") from None
        return ProgramRun(child.returncode, out, err)

    def _start(self, way: Way, fids: list[str]) -> subprocess.Popen[bytes]:
        program = way.command[0]
        with self._starting:
            if self._closed:
                raise Fid2PathFailed("the paths are no longer needed")
            if self._child is not None and self._child.poll() is None:
                raise Fid2PathFailed("the last lfs still hangs, although it was killed", "is an MDT down?")
            try:
                self._child = subprocess.Popen(
                    [*way.command, self._folder, *fids],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**without_secrets(os.environ), "LC_ALL": "C"},
                    process_group=0,  # Ctrl+C is ours to pass on: it would die of it, and be complained about
                )
            except (FileNotFoundError, PermissionError):
                raise
            except OSError as error:
                raise Fid2PathFailed(f"{program} cannot be run: {error.strerror}") from None
            return self._child

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_DEATH_TIMEOUT_S)
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def _last_words(run: ProgramRun) -> str:
    """Why a command failed, in a few words that are the same for every file; `printable` is up to who shows them."""
    lines = _FIDS_IN_BYTES.sub(b"FID", run.stderr).decode(errors="replace").strip().splitlines()
    if lines:
        return lines[-1][:200]
    return f"killed by signal {-run.status}" if run.status < 0 else f"exit status {run.status}, and nothing said"
