"""Polls, and what they may be given to read."""

from __future__ import annotations

import errno
import random

from tests.faults.model.drawn import any_mdt, any_worker, is_settled
from tests.faults.model.life import Life, Worker, as_content
from tests.faults.model.referee import Wrong, digest_of
from tests.simulator.debugfs import Listing

_ERRORS = (errno.ENOENT, errno.EIO, errno.ENOMEM, errno.EBADR)
_GARBAGE = (
    b"",
    b"x" * 3000,
    b"\x00\xff",
    b"lrh=[type=10680000 len=136 idx=99999999999999999999/7] fid=[0x1:0x1:0x0]",
    b"lrh=[type=10680000 len=136 idx=1/3] fid=[what a newer kernel prints]",
)


def poll(life: Life, rng: random.Random) -> str:
    """A poll, and what it must have done."""
    worker, calm = any_worker(life, rng), life.machine.fault is None
    listing = worker.mdt.listing() if worker.host in worker.mdt.mounted_on else []
    result = worker.poll()
    hides = worker.mdt.name in life.hidden_losses
    if calm and not hides and result is not None and result.error is None and not result.backlog:
        _check_shipped(worker, listing)
    return f"{worker.process.name}: {result}"


def _check_shipped(worker: Worker, listing: list[bytes]) -> None:
    said = set(worker.mdt.referee.digests().values())
    if not said.issuperset(map(digest_of, listing)):
        raise Wrong(f"{worker.process.name}: a poll without an error has not shipped all that it has read")


def poll_everywhere(life: Life, rng: random.Random) -> None:
    """A poll interval passes: who has an MDT polls it, who had it may do so once more."""
    life.machine.let_pass(10)
    for worker in life.workers.values():
        if worker not in life.busy and (worker.host in worker.mdt.mounted_on or rng.random() < 0.2):
            worker.poll()


def poll_an_incomplete_listing(life: Life, rng: random.Random) -> str:
    """A read error somewhere, at the end of a line or within one, or a last line without its end."""
    worker = any_worker(life, rng)
    data = as_content(worker.mdt.listing())
    if rng.random() < 0.5:
        beginning = data[: int(rng.random() * len(data))]
        whole_lines = beginning[: beginning.rfind(b"\n") + 1]
        worker.next = Listing(rng.choice((beginning, whole_lines)), rng.choice(_ERRORS))
        worker.next_again = rng.random() < 0.5  # else a fresh descriptor gives the rest
    else:
        worker.next = Listing(data[: -rng.randint(1, 60)] if data else b"x")
    return f"{worker.process.name}: {worker.poll()}"


def poll_a_short_listing(life: Life, rng: random.Random) -> str | None:
    """A list that lost most of itself, or its end, and ends like a good one: not believed until it says so again."""
    worker = any_worker(life, rng)
    if not is_settled(life, worker):
        return None
    lines = worker.mdt.listing()
    left = rng.choice((0, int(rng.random() * len(lines) / 2), max(0, len(lines) - 11)))
    worker.next = Listing(as_content(lines[:left]))
    told = worker.poll()
    worker.poll()  # a good one: two of them in a row are a proof
    return f"{worker.process.name}: {left} of {len(lines)} lines: {told}"


def poll_doubtful_listings(life: Life, rng: random.Random) -> str | None:
    """Listings in a row none of which is to be believed: no two that are whole lack the same record."""
    worker = any_worker(life, rng)
    if not is_settled(life, worker):
        return None
    lines, absent, told = worker.mdt.listing(), set[bytes](), []
    for _ in range(rng.randint(3, 9)):
        how = rng.choice(("short", "short", "incomplete", "incomplete", "garbled"))
        left = lines[: int(rng.random() * len(lines) / 2)]
        if how == "short":
            left = sorted(absent.union(left), key=lines.index)
            if 2 * (len(lines) - len(left)) <= len(lines):
                continue  # believed at once
            absent = set(lines).difference(left)
            worker.next = Listing(as_content(left))
        elif how == "incomplete":
            left = lines[: rng.randint(0, len(lines))]
            absent.difference_update(left)
            worker.next, worker.next_again = Listing(as_content(left), rng.choice(_ERRORS)), True
        else:
            absent.clear()
            worker.next = Listing(as_content([*lines, rng.choice(_GARBAGE[:3])]))
        worker.poll()
        told.append(f"{how} {len(left)}")
    return f"{worker.process.name}: {', '.join(told)} of {len(lines)}"


def poll_as_the_coordinator_stops(life: Life, rng: random.Random) -> str | None:
    """Or as it begins: before a reading, or behind it, it says itself that its list is not to be trusted."""
    worker = any_worker(life, rng)
    if not is_settled(life, worker):
        return None
    mdt = worker.mdt
    lines = mdt.listing()
    left = rng.randint(len(lines) // 2, len(lines))

    def happen() -> None:
        mdt.hsm_control = after

    before, after = rng.choice((("enabled", "stopping"), ("init", "enabled"), ("stopping", "stopping")))
    mdt.hsm_control = before
    worker.next = Listing(as_content(lines[:left]), at_end=happen)
    told = worker.poll()
    mdt.hsm_control = "enabled"
    return f"{worker.process.name}: {before}, {after}, {left} of {len(lines)} lines: {told}"


def poll_an_unsorted_listing(life: Life, rng: random.Random) -> str | None:
    """The queue of a coordinator outside the kernel, whole and then cut anywhere."""
    worker = any_worker(life, rng)
    if not is_settled(life, worker):
        return None
    mdt = worker.mdt
    mdt.order = rng.randint(0, 99)
    worker.poll()
    lines = mdt.listing()
    if lines != [mdt.lines[place] for place in sorted(mdt.lines)] and is_settled(life, worker):
        worker.next = Listing(as_content(lines[: int(rng.random() * len(lines))]))
        worker.poll()
        worker.poll()
    mdt.order = None
    worker.poll()
    return worker.process.name


def poll_with_garbage(life: Life, rng: random.Random) -> str:
    """Lines that nobody understands, lines twice, and second lines for a place."""
    worker = any_worker(life, rng)
    lines = worker.mdt.listing()
    for _ in range(rng.randint(1, 3)):
        second = [line + b"x\x01" for line in lines[:1]] + [
            line.replace(b"=0x0/0x6", b"=0x0/0x7") for line in lines[:2]
        ]
        odd = rng.choice((*_GARBAGE, *lines[:2], *second))
        lines.insert(rng.randint(0, len(lines)), odd)
    worker.next = Listing(as_content(lines))
    return f"{worker.process.name}: {worker.poll()}"


def poll_with_an_unreadable_line(life: Life, rng: random.Random) -> str | None:
    """A record that shows as something that nobody understands, once."""
    worker = any_worker(life, rng)
    if not is_settled(life, worker):
        return None
    lines = worker.mdt.listing()
    lines[rng.randrange(len(lines))] = rng.choice(_GARBAGE[:3])
    worker.next = Listing(as_content(lines))
    told = worker.poll()
    worker.poll()
    return f"{worker.process.name}: {told}"


def stop_or_start_coordinator(life: Life, rng: random.Random) -> str:
    """`hsm_control` says that the list is not to be trusted, or that it is."""
    mdt = any_mdt(life, rng)
    mdt.hsm_control = rng.choice(("init", "stopping", "enabled", "enabled", "disabled"))
    return f"{mdt.name} {mdt.hsm_control}"
