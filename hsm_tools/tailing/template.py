"""`--format`: a line of one's own, with the fields of an event in braces. Nothing but these fields can be named."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import TYPE_CHECKING

from hsm_shipper.errors import ConfigError
from hsm_shipper.process.durations import span
from hsm_shipper.process.output import printable
from hsm_tools.command.event_text import UNKNOWN, event_seconds, event_time, file_name, whole_seconds, word
from hsm_tools.tailing.event_line import Facts

if TYPE_CHECKING:  # importing it costs a tool's --help the Redis client
    from hsm_tools.consumer import StreamEvent

_Field = Callable[["StreamEvent", Facts, str | None], object]
_WIDTH = re.compile(r"[<>^]?[1-9][0-9]{0,2}")


def _age_s(event: StreamEvent) -> int | None:
    first_seen, now = whole_seconds(event.data.get("first_seen")), event_seconds(event)
    return None if first_seen is None or now is None else max(0, now - first_seen)


def _age(event: StreamEvent) -> str | None:
    seconds = _age_s(event)
    return None if seconds is None else span(seconds, compact=True)


def _archive_id(event: StreamEvent) -> int | None:
    record = event.record
    return None if record is None else record.archive_id


def _data(key: str) -> _Field:
    return lambda event, _about, _path: event.data.get(key)


def _event_type(event: StreamEvent, _about: Facts, _path: str | None) -> object:
    return event_type(event)


FIELDS: dict[str, tuple[str, _Field]] = {
    "time": ("local time of the event", lambda event, _about, _path: event_time(event)),
    "timestamp": ("the same, seconds since the epoch", lambda event, _about, _path: event_seconds(event)),
    "mdt": ("MDT", lambda _event, about, _path: about.mdt),
    "event": ("NEW, UPDATE, PURGED or REFRESH", _event_type),
    "action": ("ARCHIVE, RESTORE, REMOVE or CANCEL", lambda _event, about, _path: about.action),
    "status": ("WAITING, STARTED, SUCCEED, FAILED, CANCELED or PURGED", lambda _event, about, _path: about.status),
    "last_status": ("of a PURGED: the status before", _data("last_status")),
    "path": ("path of the file, or [FID]", lambda _event, about, path: file_name(about.fid, path)),
    "fid": ("FID without brackets", lambda _event, about, _path: about.fid),
    "id": ("id of the stream entry", lambda event, _about, _path: event.id),
    "stream": ("key of the stream", lambda event, _about, _path: event.stream),
    "age": ("time since the action was first seen, like 2h05m", lambda event, _about, _path: _age(event)),
    "age_s": ("the same, in seconds", lambda event, _about, _path: _age_s(event)),
    "archive_id": ("archive that the action is for", lambda event, _about, _path: _archive_id(event)),
    "cookie": ("the kernel's cookie", _data("cookie")),
    "host": ("metadata server that wrote the entry", _data("host")),
}


def event_type(event: StreamEvent) -> str:
    """The type by which an event is shown or hidden: NEW, UPDATE, PURGED, REFRESH, or what else it says."""
    return "REFRESH" if event.is_refresh else word(event.data.get("event_type"))


def parse_template(text: str) -> Callable[[StreamEvent, Facts, str | None], str]:
    """A function that renders an event, its facts and its path by `text`; `ConfigError` for a template that cannot be.

    `{name}` is a field, `{name:<12}` one padded to a width, `{{` and `}}` are braces. What an event does not say is a
    question mark.
    """
    parts: list[tuple[str, _Field | None, str]] = []
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ConfigError(f"--format {text!r}: {error}", "braces that stand for themselves are {{ and }}") from None
    for literal, name, width, conversion in parsed:
        if name is None:
            parts.append((literal, None, ""))
            continue
        if name not in FIELDS or conversion:
            raise ConfigError(f"--format: there is no field {{{name}}}", f"there are {', '.join(FIELDS)}")
        if width and not _WIDTH.fullmatch(width):
            raise ConfigError(f"--format: {width!r} is no width for {{{name}}}", "give a number, as in {status:<8}")
        parts.append((literal, FIELDS[name][1], width or ""))

    def render(event: StreamEvent, about: Facts, path: str | None) -> str:
        return "".join(
            literal if field is None else f"{literal}{_shown(field(event, about, path)):{width}}"
            for literal, field, width in parts
        )

    return render


def _shown(value: object) -> str:
    return printable(word(value)) or UNKNOWN
