"""Judges every entry at the moment that it is added, and the whole of a stream at quiet points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import md5
from typing import Any

from hsm_shipper.contract.kernel_line import parse_line, unpack_place
from hsm_shipper.contract.stream_ids import unpack_id
from tests.faults.model.redis_model import Stream
from tests.faults.model.reference import Live, Place, ReferenceFold, digest, event_of, identity, is_of


class Wrong(AssertionError):
    """What must never be."""


class Reading:
    """What a worker was given to read, for the referee."""

    def __init__(self, lines: list[bytes], true_lines: Iterable[bytes], *, proves_absence: bool) -> None:
        self.lines = lines
        self.true_lines = list(true_lines)
        """The list as it was then."""
        self.proves_absence = proves_absence

    def holds(self, event: dict[str, Any]) -> bool:
        """Whether it holds the line that a NEW or UPDATE tells of, by its MD5 and, where it has one, its text."""
        text = self._texts.get(str(digest(event)))
        return text is not None and event.get("raw", text) == text

    @cached_property
    def _texts(self) -> dict[str, str]:
        return {digest_of(line): line.decode(errors="replace") for line in self.lines}

    @cached_property
    def places(self) -> set[Place]:
        """The places that it holds something in."""
        return {place for place in map(_place_of, self.lines) if place is not None}

    def may_end(self, event: dict[str, Any], place: Place) -> str | None:
        """What is wrong with a PURGED of this reading."""
        if any(_place_of(line) == place and identity_of(line) == identity(event) for line in self.true_lines):
            return "PURGED of an action that was still in the file"
        if not self.proves_absence and place not in self.places:
            return "PURGED of an action that a reading missed which proves nothing"
        return None


class Referee:
    """Judges the stream of one MDT. `lines` are the true list: by place, and changed as the list changes."""

    def __init__(self, lines: dict[Place, bytes]) -> None:
        self._lines = lines
        self.fold = ReferenceFold()
        self.refreshes = 0
        self.said: set[str | None] = set()
        """MD5s of all lines whose states were ever said."""
        self._goes_on: set[Place] | None = None
        self._lost: set[Place] = set()

    def begin_epoch(self, stream: Stream | None, *, front_lost: bool = False) -> None:
        """Take what the stream says now for granted: Redis, or somebody else, has changed what it said before.

        With `front_lost` its beginning went, or entries of it: what is first said of a place that is not mentioned, or
        of which it says something else by now, may go on from there, until the worker has noticed.
        """
        before, self.fold = self.fold, folded(stream)
        if front_lost:
            if self._goes_on is None:  # else it has not noticed what was lost before either
                self._lost = set()
            self._goes_on = set()
            self._lost |= {place for place, live in before.live.items() if self.fold.live.get(place) != live}

    def has_noticed(self) -> None:
        """The worker has read what is left of the stream."""
        self._goes_on = None

    def added(self, entry: int, fields: list[bytes], readings: Sequence[Reading], host: str | None) -> None:
        """An entry was added by the worker on `host`, which may have it of any of `readings`; else by somebody else."""
        event = event_of(fields)
        if host is not None:
            if event is None:
                raise Wrong(f"{unpack_id(entry)}: no event: {fields}")
            try:
                self._judge(event, readings, host)
            except Wrong as wrong:
                raise Wrong(f"{unpack_id(entry)}: {wrong}: {event}") from None
        if event is not None:
            self.fold.add(entry, event)
            self.said.add(digest(event))

    def _judge(self, event: dict[str, Any], readings: Sequence[Reading], host: str) -> None:
        place = identity(event)[0]
        if place is None or event.get("host") != host:
            raise Wrong("an event without its place or host")
        occupant = self.fold.live.get(place)
        if event["event_type"] == "PURGED":
            self._judge_purged(event, place, readings)
        elif not any(reading.holds(event) for reading in readings):
            raise Wrong("an event of a line that was not read")
        if self._may_go_on(place):
            return
        wrong = sequence_fault(event, occupant)
        if wrong is not None:
            raise Wrong(f"{wrong}, after {occupant}")
        self.refreshes += bool(event.get("refresh"))

    def _judge_purged(self, event: dict[str, Any], place: Place, readings: Sequence[Reading]) -> None:
        line = self._lines.get(place)
        if line is not None and identity_of(line) == identity(event):
            raise Wrong("PURGED of an action that is still in the file")
        wrong = [reading.may_end(event, place) for reading in readings]
        if None not in wrong:
            raise Wrong(str(wrong[-1:]))

    def _may_go_on(self, place: Place) -> bool:
        """Whether this is the first that is said of a place since the front of the stream, or its entry, was lost."""
        if self._goes_on is None or place in self._goes_on or place in self.fold.mentioned - self._lost:
            return False
        self._goes_on.add(place)
        return True

    def digests(self) -> dict[Place, str | None]:
        """MD5 of every live line, by the entries that were seen."""
        return {place: live.digest for place, live in self.fold.live.items()}

    def listed(self) -> dict[Place, str | None]:
        """The same of the true list."""
        return {place: digest_of(line) for place, line in self._lines.items()}

    def is_true(self) -> bool:
        """Whether the stream says what the list does."""
        return self.digests() == self.listed()

    def wrong_rows(self, rows: dict[Place, Live]) -> list[Place]:
        """The places where the rows of a state file are not what the stream says."""
        live = self.fold.live
        return sorted(
            place
            for place in live.keys() | rows.keys()
            if live.get(place) != rows.get(place) or not _same_times(live[place], rows[place])
        )


def folded(stream: Stream | None) -> ReferenceFold:
    """A whole stream."""
    fold = ReferenceFold()
    if stream is not None:
        for entry, fields in zip(stream.ids, stream.fields, strict=True):
            event = event_of(fields)
            if event is not None:
                fold.add(entry, event)
    return fold


def sequence_fault(event: dict[str, Any], occupant: Live | None) -> str | None:
    """What is wrong with an event behind all that was said before it, `occupant` being what is in its place."""
    kind = event["event_type"]
    if kind == "NEW":
        return None if occupant is None else "NEW in a place that is taken"
    if occupant is None:
        return f"{kind} of an action that is not live"
    if kind == "PURGED":
        return None if is_of(event, occupant) else "PURGED of another action than is there"
    if (event["fid"], event["action"]) != (occupant.fid, occupant.action):
        return "UPDATE of another action than is there"
    if occupant.cookie is not None and event["cookie"] != occupant.cookie:
        return "UPDATE of another record than is there"
    repeats = digest(event) == occupant.digest if occupant.digest else event["status"] == occupant.status
    if repeats != bool(event.get("refresh")):
        return "a state that is sent twice" if repeats else "a refresh that changes something"
    times = (event.get("first_seen"), event.get("status_since"))
    if occupant.first_seen is None:
        return None
    if repeats and times != (occupant.first_seen, occupant.status_since):
        return "a refresh with other times"
    if times[0] != occupant.first_seen:
        return "an UPDATE that forgets since when the action is there"
    return None


def _same_times(said: Live, row: Live) -> bool:
    """As far as the entry tells them: those of earlier shippers do not."""
    pairs = (said.first_seen, row.first_seen), (said.status_since, row.status_since)
    return all(told is None or told == known for told, known in pairs)


def digest_of(line: bytes) -> str:
    """MD5 of a line, hex."""
    return md5(line, usedforsecurity=False).hexdigest()


def identity_of(line: bytes) -> tuple[Place | None, str | None, str | None, str | None]:
    """What a line speaks of, as `reference.identity` tells it of an event."""
    record = parse_line(line)
    assert record is not None, "the true list holds good lines only"
    return unpack_place(record.place), record.cookie, record.fid, record.action


def _place_of(line: bytes) -> Place | None:
    record = parse_line(line)
    return None if record is None else unpack_place(record.place)
