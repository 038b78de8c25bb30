"""What a stream said while faults were done to it: counted as false and duplicated by what came, as lost at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import redis

from hsm_shipper.contract.stream_ids import pack_id
from tests.faults.model.referee import digest_of, identity_of, sequence_fault
from tests.faults.model.reference import Place, ReferenceFold, event_of, identity

Identity = tuple[Place | None, str | None, str | None, str | None]


class _Line(NamedTuple):
    identity: Identity
    digest: str


class _End(NamedTuple):
    """What a stream holds, by XINFO STREAM: it has changed where this has."""

    last_id: str
    first_id: str | None
    length: int


class Judge:
    """Reads what comes into the stream `key`, and holds it against every line that any listing of the MDT held.

    What has not changed is not read again, and a line is taken apart once: several sites are judged by one processor.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key
        self._ever: dict[bytes, _Line] = {}
        """Every line that was ever there."""
        self._listed: dict[Place | None, str] = {}
        self._identities: set[Identity] = set()
        self.counts: Counter[str] = Counter()
        """How many events were false, and how many duplicated."""
        self.complaints: list[str] = []
        self._fold = ReferenceFold()
        self._position = "0-0"
        self._as_read: _End | None = None

    def lists(self, lines: Iterable[bytes]) -> None:
        """Take `lines` for the listing from now on."""
        told = []
        for line in lines:
            if line not in self._ever:
                self._ever[line] = _Line(identity_of(line), digest_of(line))
            told.append(self._ever[line])
        self._listed = {line.identity[0]: line.digest for line in told}
        self._identities = {line.identity for line in told}

    def read(self, *, forgives: bool = False) -> None:
        """Judge what has come. What Redis lost, or somebody else wrote or removed, `forgives` what follows from it."""
        end = self._end()
        if end == self._as_read:
            return
        if forgives or not self._holds_position(end):
            self._begin_anew()
        else:
            self._judge_new()
        self._as_read = end

    def _judge_new(self) -> None:
        for entry_id, fields in self._entries(f"({self._position}"):
            self._position = entry_id
            event = event_of(fields)
            if event is None:
                self._complain("false", f"{entry_id}: no event: {fields}")
                continue
            place = identity(event)[0]
            fault = sequence_fault(event, None if place is None else self._fold.live.get(place))
            if event["event_type"] == "PURGED":
                if identity(event) in self._identities:
                    self._complain("false", f"{entry_id}: PURGED of an action that is in the list: {event}")
            elif str(event["raw"]).encode() not in self._ever:
                self._complain("false", f"{entry_id}: no listing ever held {event}")
            if fault is not None:
                self._complain("duplicated", f"{entry_id}: {fault}: {event}")
            self._fold.add(pack_id(entry_id), event)

    def difference(self) -> int:
        """How many places the stream tells otherwise than the list does."""
        said = {place: live.digest for place, live in self._fold.live.items()}
        places = said.keys() | self._listed.keys()
        return sum(said.get(place) != self._listed.get(place) for place in places if place is not None)

    def _holds_position(self, end: _End) -> bool:
        """Whether the entry that was read last is still there: a trim may have taken it, or a failover lost it."""
        if self._position in ("0-0", end.last_id):
            return True
        return bool(self._client.xrange(self._key, self._position, self._position))

    def _begin_anew(self) -> None:
        self._fold, self._position = ReferenceFold(), "0-0"
        for entry_id, fields in self._entries("-"):
            self._position = entry_id
            event = event_of(fields)
            if event is not None:
                self._fold.add(pack_id(entry_id), event)

    def _end(self) -> _End:
        try:
            told = self._client.xinfo_stream(self._key)
        except redis.ResponseError as error:
            if "no such key" not in str(error):
                raise
            return _End("0-0", None, 0)
        first = told["first-entry"]
        return _End(told["last-generated-id"].decode(), first and first[0].decode(), told["length"])

    def _entries(self, start: str) -> list[tuple[str, list[bytes]]]:
        found: list[tuple[bytes, dict[bytes, bytes]]] = self._client.xrange(self._key, start)
        return [(entry_id.decode(), [part for pair in fields.items() for part in pair]) for entry_id, fields in found]

    def _complain(self, kind: str, what: str) -> None:
        self.counts[kind] += 1
        self.complaints.append(f"{kind}: {self._key} {what}"[:600])
