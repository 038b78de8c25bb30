"""What one look at the streams shows, and what of it belongs in a table. Pure.

A picture is made of the streams as they are in memory and never changes afterwards, so that another thread may show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.process.durations import span
from hsm_tools.live_state.follow import LiveStream
from hsm_tools.live_state.health import Health, WorkerHealth
from hsm_tools.live_state.summary import ActionGroup, GroupKey
from hsm_tools.live_state.tally import Arrivals

STEP_S = Arrivals.STEP_S
_NO_HOST = "(no heartbeat)"
_UNREADABLE_HOST = "(heartbeat unreadable)"
_NO_ARCHIVE = "archive ?"


class MdtPicture(NamedTuple):
    """One MDT. Times are seconds since the epoch."""

    mdt: str
    live: int
    entries: int
    """Entries folded to know them."""
    length: int
    """Entries that its stream has."""
    malformed: int
    last_event_at: float | None
    """When its newest entry was appended, by the server's clock; None without one."""
    heartbeat: Heartbeat | None
    health: WorkerHealth
    trouble: str | None
    """Why what is shown is not what the stream says now."""


class Picture(NamedTuple):
    """All MDTs, and their live actions by MDT, action, status and archive."""

    taken_at: float
    mdts: tuple[MdtPicture, ...]
    groups: Mapping[GroupKey, ActionGroup]
    """Those that pass the filters."""
    arrivals: tuple[int, ...]
    """Entries of each ten seconds of the last hour, the oldest first."""
    gone: Mapping[str, float]
    """When streams vanished that were there before, by MDT."""

    @property
    def live(self) -> int:
        """Live actions of all MDTs, whatever the filters."""
        return sum(mdt.live for mdt in self.mdts)

    @property
    def shown(self) -> int:
        """Live actions that pass the filters."""
        return sum(group.count for group in self.groups.values())

    @property
    def entries(self) -> int:
        """Entries folded."""
        return sum(mdt.entries for mdt in self.mdts)

    @property
    def last_event_at(self) -> float | None:
        """When the newest entry of all was appended, by the server's clock."""
        return max((mdt.last_event_at for mdt in self.mdts if mdt.last_event_at is not None), default=None)

    def rate(self, seconds: int) -> float:
        """Events a second over the last `seconds`, to ten of them."""
        steps = max(1, seconds // STEP_S)
        return sum(self.arrivals[-steps:]) / (steps * STEP_S)


def mdt_picture(stream: LiveStream, now_s: float) -> MdtPicture:
    """One stream as it is now."""
    return MdtPicture(
        stream.mdt,
        len(stream.live),
        stream.entries,
        stream.length,
        stream.malformed,
        stream.last_entry_at,
        stream.heartbeat,
        stream.health(now_s),
        stream.trouble,
    )


def vanished(before: Picture | None, mdts: Iterable[MdtPicture], now_s: float) -> dict[str, float]:
    """`Picture.gone` of the picture that follows `before`: until it comes back, a stream that was there is missed."""
    if before is None:
        return {}
    there = {mdt.mdt for mdt in mdts if mdt.last_event_at is not None}
    missed = dict.fromkeys((mdt.mdt for mdt in before.mdts if mdt.last_event_at is not None), now_s)
    return {mdt: at for mdt, at in ({**missed, **before.gone}).items() if mdt not in there}


def read_anew(before: Picture | None, mdts: Iterable[MdtPicture]) -> list[str]:
    """MDTs whose streams were folded again from their first entries since: fewer of them are folded now."""
    if before is None:
        return []
    entries = {mdt.mdt: mdt.entries for mdt in before.mdts}
    return [mdt.mdt for mdt in mdts if mdt.entries < entries.get(mdt.mdt, 0)]


def some(mdts: Sequence[str]) -> str:
    """MDTs in a few words."""
    where = ", ".join(mdts[:2])
    return where if len(mdts) < 3 else f"{len(mdts)} MDTs ({where}, ...)"


class By(Enum):
    """What rows of the table stand for: the names of their columns."""

    ALL = ("MDT", "ACTION", "STATUS")
    MDT = ("MDT",)
    ACTION = ("ACTION",)
    STATUS = ("STATUS",)
    ARCHIVE = ("ARCHIVE",)
    HOST = ("HOST",)


class Row(NamedTuple):
    """One row of the table: the sum of the groups `keys`."""

    names: tuple[str, ...]
    live: int
    diff: int
    """How many more than in the picture before."""
    oldest_first_seen: int | None
    """Seconds since the epoch; None where it is not known, or nothing is left."""
    keys: tuple[GroupKey, ...]


def rows(
    picture: Picture, before: Picture | None, by: By = By.ALL, wanted: Callable[[GroupKey], bool] = lambda _: True
) -> list[Row]:
    """The table, in order of its names; a row that has come to nothing since `before` is there once more."""
    name = _namer(picture, by)
    found: dict[tuple[str, ...], list[GroupKey]] = {}
    for key in filter(wanted, picture.groups):
        found.setdefault(name(key), []).append(key)
    counts_before: dict[tuple[str, ...], int] = {}
    if before is not None:
        for key in filter(wanted, before.groups):
            names = name(key)
            counts_before[names] = counts_before.get(names, 0) + before.groups[key].count
    result = []
    for names in sorted(found.keys() | counts_before.keys(), key=_archive_order if by is By.ARCHIVE else None):
        keys = tuple(found.get(names, ()))
        groups = [picture.groups[key] for key in keys]
        count = sum(group.count for group in groups)
        diff = 0 if before is None else count - counts_before.get(names, 0)
        seen = [group.oldest_first_seen for group in groups if group.oldest_first_seen is not None]
        result.append(Row(names, count, diff, min(seen, default=None), keys))
    return result


def _namer(picture: Picture, by: By) -> Callable[[GroupKey], tuple[str, ...]]:
    if by is By.HOST:
        hosts = {mdt.mdt: _host(mdt) for mdt in picture.mdts}
        return lambda key: (hosts.get(key.mdt, _NO_HOST),)
    if by is By.ARCHIVE:
        return lambda key: (_NO_ARCHIVE if key.archive_id is None else f"archive {key.archive_id}",)
    if by is By.ALL:
        return lambda key: tuple(key[:3])
    at = By.ALL.value.index(by.value[0])
    return lambda key: (key[:3][at],)


def _host(mdt: MdtPicture) -> str:
    if mdt.heartbeat is not None:
        return mdt.heartbeat.host
    return _UNREADABLE_HOST if mdt.health.state is Health.UNREADABLE else _NO_HOST


def _archive_order(names: tuple[str, ...]) -> tuple[bool, int, str]:
    """As numbers; what is not known comes last."""
    [name] = names
    return name == _NO_ARCHIVE, len(name), name


class Severity(Enum):
    """What an operator should do about a problem."""

    BAD = "ALERT"
    """Look at it now: what is shown is old or will be."""
    ODD = "WARN"
    """Know about it."""


class Problem(NamedTuple):
    """What is wrong with MDTs; not yet fit for a terminal."""

    severity: Severity
    mdts: tuple[str, ...]
    what: str

    def __str__(self) -> str:
        return f"{some(self.mdts)}: {self.what}"


def problems(picture: Picture) -> list[Problem]:
    """Everything that is wrong, the worst first; what several MDTs have in common is one problem."""
    found: dict[tuple[Severity, str], list[str]] = {}
    for name, at in sorted(picture.gone.items()):
        gone = f"its stream vanished {span(picture.taken_at - at)} ago (server flushed, or stream removed)"
        found.setdefault((Severity.BAD, gone), []).append(name)
    for mdt in picture.mdts:
        for kind in _of_mdt(mdt):
            found.setdefault(kind, []).append(mdt.mdt)
    stale = [mdt for mdt in picture.mdts if mdt.health.state is Health.OLD]
    if stale:
        oldest_s = max(mdt.health.age_s or 0.0 for mdt in stale)
        found[Severity.BAD, f"shipper stale, last poll {span(oldest_s)} ago"] = [mdt.mdt for mdt in stale]
    severities = list(Severity)
    ordered = sorted(found.items(), key=lambda item: severities.index(item[0][0]))
    return [Problem(severity, tuple(mdts), what) for (severity, what), mdts in ordered]


def _of_mdt(mdt: MdtPicture) -> list[tuple[Severity, str]]:
    found = []
    if mdt.trouble is not None:
        found.append((Severity.BAD, mdt.trouble))
    match mdt.health.state:
        case Health.MISSING:
            found.append((Severity.BAD, "no heartbeat: no shipper, or it hangs or cannot reach Redis"))
        case Health.UNREADABLE:
            [trouble] = mdt.health.troubles
            found.append((Severity.ODD, f"{trouble}; whether it is polled is not known"))
        case Health.OLD:  # its first trouble is its age, which is another one for every MDT
            found += [(Severity.BAD, trouble) for trouble in mdt.health.troubles[1:]]
        case Health.FRESH:
            failed = mdt.heartbeat is not None and mdt.heartbeat.last_error is not None
            severity = Severity.BAD if failed else Severity.ODD
            found += [(severity, trouble) for trouble in mdt.health.troubles]
    if mdt.malformed:
        entries = "1 malformed entry" if mdt.malformed == 1 else f"{mdt.malformed:,} malformed entries"
        found.append((Severity.ODD, f"{entries} passed over"))
    return found
