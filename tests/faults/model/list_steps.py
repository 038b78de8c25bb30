"""The life of a list: records that come, change and go."""

from __future__ import annotations

import random

from tests.faults.model.drawn import any_mdt
from tests.faults.model.life import Life, Mdt

_ACTIONS = ("ARCHIVE", "RESTORE", "REMOVE", "CANCEL")
_STATUSES = ("WAITING", "STARTED", "SUCCEED", "FAILED", "CANCELED", "HALF_DONE")


def submit(life: Life, rng: random.Random) -> str:
    """New records; in a place that is taken one is the place's next."""
    mdt = any_mdt(life, rng)
    for _ in range(rng.choice((1, 1, 2, 5, 15))):
        place = rng.randint(1, 2), rng.randint(1, rng.choice((6, 30)))
        mdt.put(place, rng.randint(1, 5), rng.choice(_ACTIONS), rng.choice(_STATUSES))
        if rng.random() < 0.05:  # bytes of an administrator, which need be no UTF-8
            mdt.lines[place] = mdt.lines[place].replace(b" data=[]", b" data=[\xff%d]" % mdt.cookie)
    return f"{mdt.name} has {len(mdt.lines)}"


def change_status(life: Life, rng: random.Random) -> None:
    """Some records get on, or back."""
    mdt = any_mdt(life, rng)
    for place in rng.sample(sorted(mdt.lines), min(len(mdt.lines), rng.choice((1, 2, 8)))):
        set_status(mdt, place, rng.choice(_STATUSES))


def set_status(mdt: Mdt, place: tuple[int, int], status: str) -> None:
    """A record gets on, or back."""
    head, _, tail = mdt.lines[place].partition(b" status=")
    mdt.lines[place] = b" status=".join((head, status.encode() + b" " + tail.partition(b" ")[2]))


def remove(life: Life, rng: random.Random) -> None:
    """Records whose grace delay is over."""
    mdt = any_mdt(life, rng)
    for place in rng.sample(sorted(mdt.lines), min(len(mdt.lines), rng.choice((1, 2, 5, 40)))):
        del mdt.lines[place]


def cancel_all(life: Life, rng: random.Random) -> None:
    """`hsm_control purge`."""
    mdt = any_mdt(life, rng)
    for place in mdt.lines:
        set_status(mdt, place, "CANCELED")


def recreate(life: Life, rng: random.Random) -> None:
    """Another llog: the same files in other places, with other cookies."""
    mdt = any_mdt(life, rng)
    places = sorted(mdt.lines)
    moved = rng.sample(places, len(places))
    for place in moved[: rng.choice((2, 2, len(moved)))]:
        mdt.put(place, rng.randint(1, 5), rng.choice(_ACTIONS), rng.choice(_STATUSES))


def burst(life: Life, rng: random.Random) -> str:
    """Changes, poll after poll: what makes a stream long. One record may wait meanwhile, and pin all of that."""
    mdt = any_mdt(life, rng)
    worker, waiting = life.worker(mdt), rng.choice([None, *sorted(mdt.lines)][:4])
    for _ in range(rng.choice((5, life.sizes.burst_polls))):
        for place in mdt.lines:
            if place != waiting:
                set_status(mdt, place, rng.choice(_STATUSES))
        worker.poll()
    if waiting is not None and worker not in life.busy:
        life.maintain(worker)
        worker.poll()  # appends its state again
        worker.poll()
    return f"{mdt.name}: {len(life.stream(mdt) or ())} entries"
