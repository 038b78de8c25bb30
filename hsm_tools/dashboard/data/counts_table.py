"""The table of live actions by what its rows stand for, and how many more they are than at the look before. Pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from hsm_tools.dashboard.data.streams_state import MdtState, StreamsState
from hsm_tools.live_state.health import Health
from hsm_tools.live_state.summary import GroupKey

_NO_HOST = "(no heartbeat)"
_UNREADABLE_HOST = "(heartbeat unreadable)"
_NO_ARCHIVE = "archive ?"


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
    """How many more than at the look before."""
    oldest_first_seen: int | None
    """Seconds since the epoch; None where it is not known, or nothing is left."""
    keys: tuple[GroupKey, ...]


def rows(
    state: StreamsState,
    before: StreamsState | None,
    by: By = By.ALL,
    wanted: Callable[[GroupKey], bool] = lambda _: True,
) -> list[Row]:
    """The table, in order of its names; a row that has come to nothing since `before` is there once more."""
    name = _namer(state, by)
    found: dict[tuple[str, ...], list[GroupKey]] = {}
    for key in filter(wanted, state.groups):
        found.setdefault(name(key), []).append(key)
    counts_before: dict[tuple[str, ...], int] = {}
    if before is not None:
        for key in filter(wanted, before.groups):
            names = name(key)
            counts_before[names] = counts_before.get(names, 0) + before.groups[key].count
    result = []
    for names in sorted(found.keys() | counts_before.keys(), key=_archive_order if by is By.ARCHIVE else None):
        keys = tuple(found.get(names, ()))
        groups = [state.groups[key] for key in keys]
        count = sum(group.count for group in groups)
        diff = 0 if before is None else count - counts_before.get(names, 0)
        seen = [group.oldest_first_seen for group in groups if group.oldest_first_seen is not None]
        result.append(Row(names, count, diff, min(seen, default=None), keys))
    return result


def _namer(state: StreamsState, by: By) -> Callable[[GroupKey], tuple[str, ...]]:
    if by is By.HOST:
        hosts = {mdt.mdt: _host(mdt) for mdt in state.mdts}
        return lambda key: (hosts.get(key.mdt, _NO_HOST),)
    if by is By.ARCHIVE:
        return lambda key: (_NO_ARCHIVE if key.archive_id is None else f"archive {key.archive_id}",)
    if by is By.ALL:
        return lambda key: tuple(key[:3])
    at = By.ALL.value.index(by.value[0])
    return lambda key: (key[:3][at],)


def _host(mdt: MdtState) -> str:
    if mdt.heartbeat is not None:
        return mdt.heartbeat.host
    return _UNREADABLE_HOST if mdt.health.state is Health.UNREADABLE else _NO_HOST


def _archive_order(names: tuple[str, ...]) -> tuple[bool, int, str]:
    """As numbers; what is not known comes last."""
    [name] = names
    return name == _NO_ARCHIVE, len(name), name
