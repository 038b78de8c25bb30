"""Maintenance cycles in the world of the fault tests, as maintenance runs them beside the worker."""

from __future__ import annotations

from collections.abc import Callable

from hsm_shipper.maintenance.cycle import CycleResult, run_cycle
from hsm_shipper.stream.stream import ActionStream
from tests.faults.world import KEY, MDT, World


def line(rec_idx: int, status: str = "WAITING", cookie: int = 0) -> bytes:
    """The line of place 1/`rec_idx`."""
    return (
        f"lrh=[type=10680000 len=136 idx=1/{rec_idx}] fid=[0x200000401:0x{rec_idx:x}:0x0] "
        f"dfid=[0x200000401:0x{rec_idx:x}:0x0] compound/cookie=0x0/0x{cookie or rec_idx:x} action=ARCHIVE archive#=1 "
        f"flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 datalen=0 status={status} data=[]"
    ).encode()


def put(world: World, *rec_indices: int, status: str = "WAITING") -> None:
    """Have the list hold these records."""
    world.lines |= {(1, rec): line(rec, status) for rec in rec_indices}


def cycle(world: World, keep_going: Callable[[], None] = lambda: None, **settings: int) -> CycleResult:
    """One cycle, as maintenance runs it beside the worker."""
    limits = {"aggressive_trim_threshold": 5000, "consumer_group_backlog_max": 1_000_000} | settings
    stream = ActionStream(world.client, KEY, "the test's server")
    return run_cycle(MDT, world.server.state_path, stream, keep_going=keep_going, **limits)


def a_past(world: World, finished: int) -> None:
    """One action that lives on, and many that came and went behind it."""
    put(world, 1)
    world.server.poll()
    put(world, *range(2, finished + 2))
    world.server.poll()
    for rec in range(2, finished + 2):
        del world.lines[1, rec]
    world.server.poll()
    world.server.poll()
    assert world.stream_is_true()
