"""Memory that was freed goes back to the system, each case in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_BEGIN = """
from hsm_shipper.process.gc_tuning import relax_collector
from hsm_shipper.process.memory import return_large_blocks, return_memory

def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

relax_collector()
"""
# What ends up in Python's free list, tuples here, is all that is left in many an arena: one of each thousand.
_FREE = """
live, rows = [], []
for number in range(500_000):
    live.append(b"%90d" % number)
    if number % 1000 == 0:
        rows.append([(number, each, each, each) for each in range(1000)])
rows = [some[0] for some in rows]
held = [(number, number, number, number) for number in range(3000)]  # what is in the list by now
before_mb = resident_mb()
del live, rows
"""
# The largest block that was freed so far is larger than the next one, behind which another one is left in use.
_FREE_LARGE = """
def some(mebibytes):
    return bytearray(b"x" * (mebibytes << 20))

some(30)
large, small = some(24), some(0) + b"x" * 100_000
before_mb = resident_mb()
del large
"""


def _returned_mb(*steps: str) -> float:
    script = "\n".join([_BEGIN, *steps, "print(before_mb - resident_mb())"])
    return float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)


def test_what_was_freed_goes_back_to_the_system() -> None:
    assert _returned_mb(_FREE, "return_memory()") > 50


def test_large_blocks_go_back_at_once() -> None:
    assert _returned_mb("return_large_blocks()", _FREE_LARGE) > 20
