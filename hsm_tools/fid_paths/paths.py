"""The paths of FIDs, found in the background and remembered: neither `ask` nor `answer` ever waits.

A path is asked for once, in a batch with others of its MDT, by one thread for each file system. An MDT that does not
answer is left alone for a while, longer each time, so that it holds up the paths of others no more than now and then.
The newest are asked for first: when more arrives than can be asked for, some paths come in time, not all of them late.
What is not asked for yet is bounded, the oldest being dropped, and so is what is remembered.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Container
from contextlib import suppress
from enum import Enum
from itertools import islice

from hsm_shipper.errors import unexpected
from hsm_shipper.process.backoff import backoff_s
from hsm_tools.fid_paths.fid2path import Answers, Fid2Path, Fid2PathFailed, is_fid
from hsm_tools.fid_paths.mounts import fsname_of, mount_of, read_mounts

_REMEMBERED_MAX = 50_000
# More than can be held back for their paths, or those would be given up.
_WAITING_MAX = 25_000
# Files are renamed: what was true ten minutes ago is asked for again.
_PATH_LIFE_S = 600.0
# A file without a path was removed, as a rule for good.
_NO_PATH_LIFE_S = 60.0
_LEAVE_ALONE_FIRST_S = 10.0
_LEAVE_ALONE_LONGEST_S = 300.0
_MOUNTS_LIFE_S = 60.0
_CLOSE_TIMEOUT_S = 2.0


class Pending(Enum):
    """Its only value says that there is no answer yet."""

    PENDING = "pending"


PENDING = Pending.PENDING


class PathCache:
    """What Lustre answered of one file system, the latest `capacity` used, each for as long as it may be believed."""

    def __init__(self, capacity: int = _REMEMBERED_MAX) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, tuple[str | None, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, fid: str, now_s: float) -> str | Pending | None:
        """The path of a FID, None for one without a path; `PENDING` if there is no answer to go by."""
        entry = self._entries.get(fid)
        if entry is None:
            return PENDING
        if now_s >= entry[1]:
            del self._entries[fid]
            return PENDING
        self._entries.move_to_end(fid)
        return entry[0]

    def put(self, fid: str, path: str | None, now_s: float) -> None:
        """Remember an answer."""
        self._entries[fid] = (path, now_s + (_NO_PATH_LIFE_S if path is None else _PATH_LIFE_S))
        self._entries.move_to_end(fid)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


class WaitingFids:
    """FIDs to ask for, by MDT, and which MDTs to leave alone. Pure: no clock, no lock."""

    def __init__(self, capacity: int = _WAITING_MAX) -> None:
        self._capacity = capacity
        self._fids: OrderedDict[str, str] = OrderedDict()  # to their MDTs, the oldest first
        self._in_flight: tuple[str, ...] = ()
        self._failures: dict[str, tuple[int, float]] = {}  # in a row, and until when to leave the MDT alone

    def __contains__(self, fid: str) -> bool:
        return fid in self._fids or fid in self._in_flight

    def add(self, mdt: str, fid: str, now_s: float) -> bool:
        """Ask for it, unless that goes on already, or its MDT is left alone; whether it is new."""
        if fid in self or now_s < self._failures.get(mdt, (0, -math.inf))[1]:
            return False
        self._fids[fid] = mdt
        if len(self._fids) > self._capacity:
            self._fids.popitem(last=False)
        return True

    def take(self, most: int) -> tuple[str, list[str]] | None:
        """The MDT of the newest FID and up to `most` of its newest, in flight from now on; None if there are none."""
        if not self._fids:
            return None
        mdt = next(reversed(self._fids.values()))
        of_mdt = (fid for fid, its_mdt in reversed(self._fids.items()) if its_mdt == mdt)
        batch = list(islice(of_mdt, most))
        for fid in batch:
            del self._fids[fid]
        self._in_flight = tuple(batch)
        return mdt, batch

    def answered(self, mdt: str, fids: Container[str]) -> None:
        """Of what was in flight, `fids` are answered; the others are asked for again."""
        for fid in self._in_flight:
            if fid not in fids:
                self._fids[fid] = mdt
        self._in_flight = ()
        self._failures.pop(mdt, None)

    def failed(self, mdt: str, now_s: float) -> None:
        """What was in flight is not answered: leave the MDT alone, and longer than the last time."""
        self._in_flight = ()
        self._fids = OrderedDict((fid, its_mdt) for fid, its_mdt in self._fids.items() if its_mdt != mdt)
        times = self._failures.get(mdt, (0, 0.0))[0] + 1
        self._failures[mdt] = (times, now_s + backoff_s(times, _LEAVE_ALONE_FIRST_S, _LEAVE_ALONE_LONGEST_S))


class Paths:
    """The paths of FIDs of all file systems, for one thread.

    `mounts`: where file systems are mounted, for those that `/proc/mounts` need not be asked for. `say` is called with
    what a person should know, once for each trouble, and `wake` when there are new answers: both from other threads.
    """

    def __init__(self, mounts: dict[str, str], say: Callable[[str], None], wake: Callable[[], None]) -> None:
        self._mounts = mounts
        self._say = say
        self._wake = wake
        self._workers: dict[str, _Worker] = {}
        self._of_mdt: dict[str, _Worker] = {}
        self._not_mounted: dict[str, float] = {}  # or without a thread; until when it is not tried again

    def ask(self, mdt: str, fid: str) -> None:
        """Have the path of a file of that MDT's file system asked for, unless it is known."""
        worker = self._of_mdt.get(mdt) or self._new_of_mdt(mdt)
        if worker is not None:
            worker.ask(mdt, fid)

    def answer(self, mdt: str, fid: str) -> str | Pending | None:
        """The path of a file that was asked for, None if there will be none; `PENDING`: look again after `wake`."""
        worker = self._of_mdt.get(mdt)
        return None if worker is None else worker.answer(fid)

    def close(self) -> None:
        """End the threads and their children; nothing is said or woken from now on."""
        for worker in self._workers.values():
            worker.close()

    def _new_of_mdt(self, mdt: str) -> _Worker | None:
        fsname = fsname_of(mdt)
        worker = self._workers.get(fsname) or self._new_worker(fsname)
        if worker is not None:
            self._of_mdt[mdt] = worker
        return worker

    def _new_worker(self, fsname: str) -> _Worker | None:
        now_s = time.monotonic()
        known_until_s = self._not_mounted.get(fsname)
        if known_until_s is not None and now_s < known_until_s:
            return None
        folder = self._mounts.get(fsname) or mount_of(fsname, read_mounts())
        if folder is None:
            self._not_mounted[fsname] = now_s + _MOUNTS_LIFE_S
            if known_until_s is None:
                self._say(f"{fsname} is not mounted here: its files are shown by their FIDs (--mount, --no-paths)")
            return None
        try:
            worker = self._workers[fsname] = _Worker(fsname, folder, self._say, self._wake)
        except RuntimeError as error:  # no more threads may be started
            self._not_mounted[fsname] = now_s + _MOUNTS_LIFE_S
            if known_until_s is None:
                self._say(f"files of {fsname} are shown by their FIDs: {error}")
            return None
        return worker


class _Worker:
    """The paths of one file system: a thread that asks, and what it was answered."""

    def __init__(self, fsname: str, folder: str, say: Callable[[str], None], wake: Callable[[], None]) -> None:
        self._fsname = fsname
        self._say = say
        self._wake = wake
        self._fid2path = Fid2Path(folder)
        self._cache = PathCache()
        self._waiting = WaitingFids()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ended = False
        self._said: deque[str] = deque(maxlen=10)
        self._thread = threading.Thread(target=self._work, name=f"paths of {fsname}", daemon=True)
        self._thread.start()

    def ask(self, mdt: str, fid: str) -> None:
        now_s = time.monotonic()
        with self._lock:
            if (
                self._cache.get(fid, now_s) is PENDING
                and not self._ended
                and is_fid(fid)
                and self._waiting.add(mdt, fid, now_s)
            ):
                self._changed.notify()

    def answer(self, fid: str) -> str | Pending | None:
        with self._lock:
            path = self._cache.get(fid, time.monotonic())
            return None if path is PENDING and (self._ended or fid not in self._waiting) else path

    def close(self) -> None:
        with self._lock:
            self._ended = True
            self._changed.notify()
        self._fid2path.close()
        self._thread.join(_CLOSE_TIMEOUT_S)

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            self._ask(*taken)

    def _take(self) -> tuple[str, list[str]] | None:
        with self._lock:
            while not self._ended:
                taken = self._waiting.take(self._fid2path.batch_max)
                if taken is not None:
                    return taken
                self._changed.wait()
        return None

    def _ask(self, mdt: str, fids: list[str]) -> None:
        try:
            answers = self._fid2path.ask(fids)
        except Fid2PathFailed as error:
            closing = self._give_up(mdt, is_final=error.is_final)
            trouble: str | None = str(error)
        except Exception as error:  # noqa: BLE001 - without this thread, every file would wait for its path for ever
            closing = self._give_up(mdt, is_final=False)
            trouble = str(unexpected("asking for them failed", error))
        else:
            closing = self._remember(mdt, answers)
            trouble = self._fid2path.complaint
        if closing:
            return
        if trouble is not None and trouble not in self._said:
            self._said.append(trouble)
            with suppress(OSError, ValueError):  # nobody listens any more
                self._say(f"files of {self._fsname} are shown by their FIDs: {trouble}")
        self._wake()

    def _give_up(self, mdt: str, *, is_final: bool) -> bool:
        with self._lock:
            self._waiting.failed(mdt, time.monotonic())
            closing, self._ended = self._ended, self._ended or is_final
            return closing

    def _remember(self, mdt: str, answers: Answers) -> bool:
        now_s = time.monotonic()
        with self._lock:
            self._waiting.answered(mdt, answers)
            for fid, path in answers.items():
                self._cache.put(fid, path, now_s)
            return self._ended
