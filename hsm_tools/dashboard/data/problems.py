"""What is wrong with streams and workers, and how bad it is. Pure."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from hsm_shipper.process.durations import span
from hsm_tools.dashboard.data.streams_state import MdtState, StreamsState, some
from hsm_tools.live_state.health import Health


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


def problems(state: StreamsState) -> list[Problem]:
    """Everything that is wrong, the worst first; what several MDTs have in common is one problem."""
    found: dict[tuple[Severity, str], list[str]] = {}
    for name, at in sorted(state.gone.items()):
        gone = f"its stream vanished {span(state.taken_at - at)} ago (server flushed, or stream removed)"
        found.setdefault((Severity.BAD, gone), []).append(name)
    for mdt in state.mdts:
        for kind in _of_mdt(mdt):
            found.setdefault(kind, []).append(mdt.mdt)
    stale = [mdt for mdt in state.mdts if mdt.health.state is Health.OLD]
    if stale:
        oldest_s = max(mdt.health.age_s or 0.0 for mdt in stale)
        found[Severity.BAD, f"shipper stale, last poll {span(oldest_s)} ago"] = [mdt.mdt for mdt in stale]
    severities = list(Severity)
    ordered = sorted(found.items(), key=lambda item: severities.index(item[0][0]))
    return [Problem(severity, tuple(mdts), what) for (severity, what), mdts in ordered]


def _of_mdt(mdt: MdtState) -> list[tuple[Severity, str]]:
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
