"""Judges a stream while an MDT lives: what no listing showed, and the end of what is still there, must not be said."""

from __future__ import annotations

import redis

from hsm_shipper.contract.event import NEW, UPDATE, decode
from hsm_shipper.contract.kernel_line import parse_line, unpack_place
from hsm_shipper.errors import MalformedEvent
from tests.faults.world import KEY, World
from tests.support.truth import Place, Verdict, entries_of

Identity = tuple[Place, str, str, str]


class Judge:
    """Judges each entry once, against the listing as it is then; `verdict` is on all of them since the epoch began."""

    def __init__(self, client: redis.Redis, world: World) -> None:
        self.ever: set[bytes] = set()
        """Every line that any listing held."""
        self._client = client
        self._world = world
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Take what the stream says now for granted, and judge what comes after it."""
        self.verdict: Verdict = self._world.verdict()
        self.verdict.complaints.clear()
        entries = entries_of(self._client, KEY)
        self._judged_up_to = entries[-1][0] if entries else "0-0"

    def judge(self, *, may_purge_missing: bool = True) -> None:
        """Judge what has come since."""
        live_now = {_identity(line) for line in self._world.lines.values()}
        for entry_id, data in entries_of(self._client, KEY, f"({self._judged_up_to}"):
            self.verdict.add(entry_id, data)
            self._judged_up_to = entry_id
            self._judge_entry(data, live_now, may_purge_missing)

    def _judge_entry(self, data: bytes | None, live_now: set[Identity], may_purge_missing: bool) -> None:
        try:
            event = decode(data)
        except MalformedEvent:  # the test's own
            return
        if event.event_type in (NEW, UPDATE):
            assert event.raw is not None
            assert event.raw.encode() in self.ever, "an event that no listing ever held"
            return
        assert event.cat_idx is not None
        assert event.rec_idx is not None
        place = (event.cat_idx, event.rec_idx)
        identity = (place, str(event.cookie), str(event.fid), str(event.action))
        assert identity not in live_now, "PURGED of an action that is still in the file"
        assert may_purge_missing or place in self._world.lines, "PURGED of a missing action while stopping"


def _identity(line: bytes) -> Identity:
    record = parse_line(line)
    assert record is not None
    return unpack_place(record.place), record.cookie, record.fid, record.action
