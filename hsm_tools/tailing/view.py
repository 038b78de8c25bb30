"""What `hsm-stream-tail` shows of the events, and how. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from hsm_tools.command.filters import ActionFilter
from hsm_tools.tailing.event_line import Facts, facts
from hsm_tools.tailing.template import event_type

if TYPE_CHECKING:  # importing it costs a tool's --help the Redis client
    from hsm_tools.consumer import StreamEvent

RenderLine = Callable[["StreamEvent", Facts, "str | None"], str]


class Wanted(NamedTuple):
    """An event that is to be shown, and what it is about."""

    event: StreamEvent
    about: Facts


class EventView:
    """Which events are shown and what their lines are.

    `hidden` are event types and statuses, the `matches` functions tell what is let through; `matches_path` is None
    where the path does not matter. `without_path` counts the events that were left out because their paths were not
    known.
    """

    def __init__(
        self,
        render: RenderLine,
        hidden: frozenset[str] = frozenset(),
        matches: ActionFilter | None = None,
        matches_fid: Callable[[str], bool] = lambda _fid: True,
        matches_path: Callable[[str], bool] | None = None,
    ) -> None:
        self._render = render
        self._hidden = hidden
        self._matches = matches or ActionFilter()
        self._matches_fid = matches_fid
        self._matches_path = matches_path
        self.without_path = 0

    def select(self, events: Iterable[StreamEvent]) -> list[Wanted]:
        """Those of `events` that are shown, as far as that can be told without their paths."""
        return [
            Wanted(event, about)
            for event in events
            if event_type(event) not in self._hidden
            and (about := facts(event)).status not in self._hidden
            and self._matches(about.mdt, about.action, about.status)
            and self._matches_fid(about.fid)
        ]

    def lines(self, leaving: Iterable[tuple[Wanted, str | None]]) -> list[str]:
        """The lines of events with their paths, None where that is not known."""
        if self._matches_path is not None:
            leaving = self._with_matching_path(leaving, self._matches_path)
        return [self._render(event, about, path) for (event, about), path in leaving]

    def _with_matching_path(
        self, leaving: Iterable[tuple[Wanted, str | None]], matches: Callable[[str], bool]
    ) -> Iterable[tuple[Wanted, str | None]]:
        for wanted, path in leaving:
            if path is None:
                self.without_path += 1
            elif matches(path):
                yield wanted, path


def json_lines() -> RenderLine:
    """Renders the event's own object with `stream`, `id` and, where it is known, `path`; nothing in it but ASCII."""
    import msgspec

    encode = msgspec.json.Encoder().encode

    def render(event: StreamEvent, _about: Facts, path: str | None) -> str:
        shown = event.data | {"stream": event.stream, "id": event.id}
        if path is not None:
            shown["path"] = path
        try:
            line = encode(shown).decode()
        except RecursionError:  # nested so deep that it could only just be read: no event of anyone's
            line = encode({key: value for key, value in shown.items() if not isinstance(value, list | dict)}).decode()
        if line.isascii() and "\x7f" not in line:
            return line
        return json.dumps(json.loads(line), separators=(",", ":")).replace("\x7f", "\\u007f")

    return render
