"""What the demo says at its end: whether each stream tells what its actions file holds, and nothing false. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

from hsm_shipper.contract.event import NEW, PURGED, UPDATE, decode
from hsm_shipper.errors import MalformedEvent
from tests.support.truth import Place, Verdict

_HEADERS = ("MDT", NEW, UPDATE, PURGED, "live\nin file", "live\nin stream", "that\ndiffer", "false or\nduplicate")
_SHOWN_COMPLAINTS = 5


@dataclass
class SimulatedVerdict(Verdict):
    """A stream, replayed, of a simulated MDT: there no action ever comes back, so one that does was PURGED falsely."""

    ended: set[tuple[object, ...]] = field(default_factory=set)

    def add(self, entry_id: str, data: bytes | None) -> None:
        """Judge the next entry."""
        super().add(entry_id, data)
        try:
            event = decode(data)
        except MalformedEvent:
            return
        name = (event.place, event.fid, event.action, event.cookie)
        if event.event_type == PURGED:
            self.ended.add(name)
        elif name in self.ended:
            self.complaints.append(f"{entry_id}: {event.action_key} is back, so that its PURGED was false")


@dataclass(frozen=True)
class MdtReport:
    """One MDT: its stream, replayed, and the MD5 of every line of its file, by place."""

    mdt: str
    stream: Verdict
    file: Mapping[Place, bytes]

    @property
    def differences(self) -> list[str]:
        """Every place at which the stream and the file do not hold the same line, in words."""
        stream = self.stream.digests()
        found = []
        for place in sorted(stream.keys() | self.file.keys()):
            where = f"{self.mdt}: {place[0]}/{place[1]}"
            if place not in stream:
                found.append(f"{where} is in the file and not in the stream")
            elif place not in self.file:
                found.append(f"{where} is in the stream and not in the file")
            elif stream[place] != self.file[place]:
                found.append(f"{where} is not the same in the stream and in the file")
        return found

    @property
    def complaints(self) -> list[str]:
        """Every false or duplicate event in the stream, in words."""
        found = [f"{self.mdt}: {complaint}" for complaint in self.stream.complaints]
        if self.stream.malformed:
            found.append(f"{self.mdt}: {self.stream.malformed} entries are malformed")
        return found

    def row(self) -> list[int]:
        """The numbers of the table."""
        events = (self.stream.events[kind] for kind in (NEW, UPDATE, PURGED))
        wrong = len(self.stream.complaints) + self.stream.malformed
        return [*events, len(self.file), len(self.stream.live), len(self.differences), wrong]


def table(reports: Sequence[MdtReport]) -> str:
    """A line for each MDT, and their sum."""
    rows = [report.row() for report in reports]
    rows.append([sum(column) for column in zip(*rows, strict=True)])
    names = [*(report.mdt for report in reports), "all"]
    shown = [[name, *(f"{number:,}" for number in row)] for name, row in zip(names, rows, strict=True)]
    alignment = ("left", *("right" for _ in _HEADERS[1:]))
    return tabulate(shown, _HEADERS, disable_numparse=True, colalign=alignment)


def wrong(reports: Sequence[MdtReport]) -> list[str]:
    """What is wrong, a few lines of it for each MDT; nothing if everything is as it must be."""
    lines = []
    for report in reports:
        for found in (report.differences, report.complaints):
            lines += found[:_SHOWN_COMPLAINTS]
            if len(found) > _SHOWN_COMPLAINTS:
                lines.append(f"{report.mdt}: and {len(found) - _SHOWN_COMPLAINTS:,} more of the kind")
    return lines
