"""What a stream said while faults were done to it: counted as false and duplicated by what came, as lost at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import redis

from hsm_shipper.contract.stream_ids import pack_id
from tests.faults.model.referee import digest_of, identity_of, sequence_fault
from tests.faults.model.reference import Place, ReferenceFold, event_of, identity

Identity = tuple[Place | None, str | None, str | None, str | None]


class Judge:
    """Reads what comes into the stream `key`, and holds it against every line that any listing of the MDT held."""

    def __init__(self, client: redis.Redis, key: str, listing: Callable[[], list[bytes]]) -> None:
        self._client = client
        self._key = key
        self._listing = listing
        self.ever: set[bytes] = set()
        """Every line that was ever there."""
        self.counts: Counter[str] = Counter()
        """How many events were false, and how many duplicated."""
        self.complaints: list[str] = []
        self._fold = ReferenceFold()
        self._position = "0-0"

    def read(self, *, forgives: bool = False) -> None:
        """Judge what has come. What Redis lost, or somebody else wrote or removed, `forgives` what follows from it."""
        self.ever.update(self._listing())
        live = {identity_of(line) for line in self._listing()}
        if forgives or not self._holds_position():
            self._begin_anew()
            return
        for entry_id, fields in self._entries(f"({self._position}"):
            self._position = entry_id
            event = event_of(fields)
            if event is None:
                self._complain("false", f"{entry_id}: no event: {fields}")
                continue
            place = identity(event)[0]
            fault = sequence_fault(event, None if place is None else self._fold.live.get(place))
            if event["event_type"] == "PURGED":
                if identity(event) in live:
                    self._complain("false", f"{entry_id}: PURGED of an action that is in the list: {event}")
            elif str(event["raw"]).encode() not in self.ever:
                self._complain("false", f"{entry_id}: no listing ever held {event}")
            if fault is not None:
                self._complain("duplicated", f"{entry_id}: {fault}: {event}")
            self._fold.add(pack_id(entry_id), event)

    def difference(self) -> int:
        """How many places the stream tells otherwise than the list does."""
        said = {place: live.digest for place, live in self._fold.live.items()}
        listed = {identity_of(line)[0]: digest_of(line) for line in self._listing()}
        return sum(said.get(place) != listed.get(place) for place in said.keys() | listed.keys() if place is not None)

    def _holds_position(self) -> bool:
        """Whether a trim has left the entry that was read last, or all that came behind it."""
        first = self._client.xrange(self._key, count=1) or []
        return not first or self._position == "0-0" or pack_id(first[0][0]) <= pack_id(self._position)  # type: ignore[arg-type]

    def _begin_anew(self) -> None:
        self._fold, self._position = ReferenceFold(), "0-0"
        for entry_id, fields in self._entries("-"):
            self._position = entry_id
            event = event_of(fields)
            if event is not None:
                self._fold.add(pack_id(entry_id), event)

    def _entries(self, start: str) -> list[tuple[str, list[bytes]]]:
        found: list[tuple[bytes, dict[bytes, bytes]]] = self._client.xrange(self._key, start)  # type: ignore[assignment]
        return [(entry_id.decode(), [part for pair in fields.items() for part in pair]) for entry_id, fields in found]

    def _complain(self, kind: str, what: str) -> None:
        self.counts[kind] += 1
        self.complaints.append(f"{kind}: {self._key} {what}"[:600])
