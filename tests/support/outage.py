"""An MDT whose polls do not reach Redis for a while."""

from __future__ import annotations

from hsm_shipper.errors import StreamUnavailable
from hsm_shipper.worker.outbox import OutboxBound
from hsm_shipper.worker.poll_result import PollResult
from tests.support.core import OneMdt, Wire, line, lines

LISTING = lines(range(1, 7))
# Three polls without Redis, and what each of them has to say.
OUTAGE = [
    [line(1, "STARTED"), *LISTING[1:], line(8)],
    [line(1, "SUCCEED"), *LISTING[1:]],
    [*LISTING[1:], line(8, cookie=0x6B030000), line(9)],
]
TOLD = [
    "UPDATE 1/1 STARTED", "NEW 1/8 WAITING",
    "PURGED 1/8 WAITING", "UPDATE 1/1 SUCCEED",
    "PURGED 1/1 SUCCEED", "NEW 1/8 WAITING", "NEW 1/9 WAITING",
]  # fmt: skip


def filled(mdt: OneMdt) -> OneMdt:
    """With six actions in the stream."""
    mdt.poll(*LISTING)
    mdt.told()
    return mdt


def bounded(mdt: OneMdt, bound: OutboxBound) -> OneMdt:
    """The same MDT, with a worker that lets so much wait."""
    mdt.replica.close()
    mdt.replica.outbox.bound = bound
    return mdt


def fail(mdt: OneMdt, *listing: bytes) -> PollResult:
    """A poll that shows `listing` and does not reach Redis."""
    mdt.shows(*listing)
    result = mdt.poller.poll()
    assert isinstance(result.error, StreamUnavailable), result.error
    return result


def missed(mdt: OneMdt) -> int:
    """How many states are in no stream and never will be, as the state file has counted them."""
    status = mdt.replica.saved_status()
    assert status is not None
    return status.states_missed


def go_without_redis(mdt: OneMdt, wire: Wire, listings: list[list[bytes]] = OUTAGE) -> None:
    """Poll these while Redis is away, which it is no more then."""
    wire.down = True
    for listing in listings:
        fail(mdt, *listing)
    wire.down = False


def drained(mdt: OneMdt) -> list[list[str]]:
    """Poll until nothing waits any more; what each poll has told. Each appends something, or it is no draining."""
    told = []
    for _ in range(mdt.replica.waiting.events):
        if mdt.replica.waiting.events:
            mdt.poller.poll()
            told.append(mdt.told())
    assert not mdt.replica.waiting.events
    return told
