"""The guards of the core, each taken away in turn: the simulation has to notice every one of them.

`python -m tests.faults.mutations` copies the tree, takes one guard out of the copy, and runs the simulation on it. One
that nobody misses is not needed, or not tested.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 1200


class Mutation(NamedTuple):
    """`text`, which is in `file` once, becomes `instead`: the guard that `why` tells of is gone."""

    file: str
    text: str
    instead: str
    why: str


MUTATIONS = [
    # What the worker knows of its stream.
    Mutation(
        "worker/stream_replica.py",
        "if head != self._head and self._has_losses(head):",
        "if False:",
        "entries that went from inside the stream are looked for behind every append",
    ),
    Mutation(
        "worker/stream_replica.py",
        "if self._head is None or head.end != self._head.end:",
        "if self._head is None:",
        "a stream that ends elsewhere is folded before anything is read",
    ),
    Mutation(
        "worker/stream_replica.py",
        "            self._abandon()\n            self._in_step = False\n            if isinstance",
        "            self._abandon()\n            if isinstance",
        "after an error of Redis the stream is looked at anew",
    ),
    Mutation("worker/stream_replica.py", "            _note_entries(flight)\n", "", "a state knows its entry"),
    Mutation(
        "worker/stream_replica.py",
        " and self._stream.holds(ours):",
        ":",
        "a replay goes on from an entry only if that is still what it was",
    ),
    Mutation(
        "worker/stream_replica.py",
        "if ours is not None and after is not None and has_losses(",
        "if False and has_losses(",
        "entries that went while others came are noticed by a catch-up",
    ),
    Mutation(
        "worker/stream_replica.py",
        "if self._state_file is not None and not self._state_file.is_current():",
        "if False:",
        "a state file that was removed or replaced is opened anew",
    ),
    # The state file.
    Mutation("state/state_file.py", "delete_actions(self._connection, (", "list((", "what is purged leaves the file"),
    Mutation(
        "state/state_file.py",
        ".without_actions(left).with_actions(put)\n        self.set_position(head)",
        ".without_actions(left).with_actions(put)",
        "the position is committed with the changes",
    ),
    Mutation("state/rows.py", "and row != self.found:", "and False:", "a file of two days is noticed"),
    # What the stream is.
    Mutation(
        "stream/compare_and_append.py",
        "        if not matched:\n            raise self._difference()\n",
        "",
        "an append that was refused is not taken for one that was done",
    ),
    Mutation(
        "stream/stream.py",
        "if pack_id(now.last_id) < pack_id(held.last_id):",
        "if False:",
        "a server that is behind is not believed",
    ),
    Mutation(
        "contract/stream_head.py",
        "known.max_deleted_id != now.max_deleted_id:\n        return True",
        "known.max_deleted_id != now.max_deleted_id:\n        return False",
        "XDEL is noticed",
    ),
    Mutation(
        "contract/stream_head.py",
        "return needs_before(now.first_id) or _may_hide_a_deletion(now)",
        "return _may_hide_a_deletion(now)",
        "a foreign trim of what is needed is noticed",
    ),
    Mutation(
        "contract/fold.py",
        "        before = self.by_place.pop(place, None)",
        "        before = self.by_place.get(place)",
        "live actions are in order of their entries: trimming goes by the first",
    ),
    # What is read.
    Mutation(
        "lustre/held_file.py",
        "            self._close()\n            return None\n",
        "            self._close()\n            return b''\n",
        "a held descriptor that fails is opened again, and is no empty list",
    ),
    Mutation(
        "lustre/actions_file.py",
        'self.fault = f"cannot read it after {self.lines} lines: {error.strerror}"',
        "self.fault = None",
        "an error is not the end of the list",
    ),
    # What is believed gone.
    Mutation("worker/purge_decision.py", "if fault is not None:", "if False:", "nothing is purged on half a list"),
    Mutation(
        "worker/purge_decision.py",
        "if coordinator is not None:",
        "if False:",
        "nothing is purged while the coordinator begins or stops",
    ),
    Mutation(
        "worker/purge_decision.py",
        "if 2 * len(missing) > scan.known_at_begin:",
        "if False:",
        "a list that lost most of its lines has to say so twice",
    ),
    Mutation("worker/purge_decision.py", "if beyond > LOST_END:", "if False:", "and so does one that lost its end"),
    Mutation(
        "worker/purge_decision.py",
        "if not scan.is_sorted():",
        "if False:",
        "a list that is not sorted has no end that could be seen",
    ),
    Mutation(
        "worker/purge_decision.py",
        "    if scan.not_understood:\n",
        "    if False:\n",
        "behind a line that nobody understands may be any action",
    ),
    Mutation(
        "worker/purge_decision.py",
        "purge = missing & absent_before",
        "purge = missing",
        "what a doubtful list lacks is not believed gone",
    ),
    Mutation(
        "worker/purge_decision.py",
        "return PurgeDecision(purge, missing - purge, doubt)",
        "return PurgeDecision(purge, set(), doubt)",
        "the second doubtful list is believed",
    ),
    # What is said of it.
    Mutation(
        "worker/poller.py",
        "gone = merge(snapshot.replaced, snapshot.decision.purge)",
        "gone = iter(snapshot.decision.purge)",
        "an action ends before its place is taken by another",
    ),
    Mutation(
        "worker/poller.py",
        "        if not self._replica.shipped:\n            self._replica.compare()\n",
        "",
        "a poll without changes looks whether the stream is still there",
    ),
    Mutation(
        "worker/poller.py",
        "if not ascends(new, last_place):",
        "if False:",
        "of a first list that is not sorted no place is shipped twice",
    ),
    Mutation(
        "worker/changes.py",
        "new, after, timestamp, refresh=True), before",
        "new, after, timestamp), before",
        "a refresh says that it is one",
    ),
    Mutation("worker/changes.py", "if before.first_seen is not None:", "if False:", "an action keeps its age"),
    Mutation(
        "worker/changes.py",
        "and (before.cookie is None or before.cookie == record.cookie)",
        "",
        "the next record of a file in a place is another action",
    ),
    # Maintenance.
    Mutation(
        "maintenance/trim.py",
        "oldest = next(iter(replay.live), None)",
        "oldest = None",
        "no entry that a live action needs is trimmed",
    ),
    Mutation(
        "maintenance/trim.py",
        "elif oldest is None or needed < oldest:\n            oldest = needed",
        "elif False:\n            oldest = needed",
        "no entry that a consumer group needs is trimmed",
    ),
    Mutation(
        "maintenance/trim.py", "        chosen.append(action)\n", "", "an old live action does not pin the stream"
    ),
    Mutation(
        "maintenance/reconcile.py",
        "delete_actions(self._connection, healed.missing)",
        "pass",
        "what the stream has lost leaves the state file, and is appended again",
    ),
]
"""Of `hsm_shipper/`."""


def mutated(mutation: Mutation, root: Path = ROOT) -> str:
    """The file without its guard; `ValueError` where the text is not there, or more than once."""
    content = (root / "hsm_shipper" / mutation.file).read_text()
    found = content.count(mutation.text)
    if found != 1:
        raise ValueError(f"{mutation.file} has {found} times {mutation.text!r}: the list of mutations is out of date")
    return content.replace(mutation.text, mutation.instead)


def caught(mutation: Mutation, seed: int, steps: int) -> tuple[bool, str]:
    """Whether the simulation notices, and what it says."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        leave = shutil.ignore_patterns("__pycache__")
        for name in ("hsm_shipper", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=leave)
        (copy / "hsm_shipper" / mutation.file).write_text(mutated(mutation))
        command = [sys.executable, "-m", "tests.faults.model", "--seed", str(seed), "--steps", str(steps), "--as-found"]
        try:
            done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return True, "it never ends"
        if done.returncode not in (0, 1):
            raise RuntimeError(f"the simulation cannot run: {done.stderr}")
        told = [line for line in done.stdout.splitlines() if line and not line.startswith((" ", "again:"))]
        return done.returncode == 1, told[-1][:160] if told else done.stderr[-160:]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 where a guard is missed by nobody."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60_000, help="at most, for each; %(default)s unless said")
    parser.add_argument("--jobs", type=int, default=2, help="at a time; %(default)s unless said")
    parser.add_argument("--only", default="", help="those with this in what they tell")
    args = parser.parse_args(argv)
    chosen = [mutation for mutation in MUTATIONS if args.only in str(mutation)]
    begun, missed = time.monotonic(), 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for mutation, (is_caught, told) in zip(
            chosen, pool.map(lambda mutation: caught(mutation, args.seed, args.steps), chosen), strict=True
        ):
            missed += not is_caught
            print(f"{'caught' if is_caught else 'MISSED'}  {mutation.file}: {mutation.why}: {told}", flush=True)
    print(f"{len(chosen)} guards taken away, {missed} not missed by anybody, {time.monotonic() - begun:.0f} s")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
