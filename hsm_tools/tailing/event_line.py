"""One event as one line of `hsm-stream-tail`: its own form; `template` has that of `--format`. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hsm_shipper.process.output import printable
from hsm_tools.command.colour import PLAIN, Colours
from hsm_tools.command.event_text import UNKNOWN, event_time, file_name, word

if TYPE_CHECKING:  # importing it costs a tool's --help the Redis client
    from hsm_tools.consumer import StreamEvent


class Facts(NamedTuple):
    """What an event is about, as it says itself: not yet fit for a terminal, and empty where it does not say."""

    mdt: str
    fid: str
    """Without brackets."""
    action: str
    status: str


def facts(event: StreamEvent) -> Facts:
    """What `event` is about; a PURGED by an earlier shipper has only `action_key`, which is FID and action."""
    data = event.data
    fid, action = word(data.get("fid")), word(data.get("action"))
    if not (fid and action):
        key_fid, _, key_action = word(data.get("action_key")).rpartition(":")
        fid, action = fid or key_fid, action or key_action
    mdt = word(data.get("mdt")) or event.stream.rpartition(":")[2]
    return Facts(mdt, fid.removeprefix("[").removesuffix("]"), action, word(data.get("status")))


def event_line(event: StreamEvent, about: Facts, path: str | None = None, colours: Colours = PLAIN) -> str:
    """One event in one line without its newline; what the event does not say is a question mark.

    `about` are its facts. Without a path it shows the FID in brackets. A refresh (an old state repeated) is marked as
    one behind its id.
    """
    mdt, fid, action, status = about
    refresh = ", refresh" if event.is_refresh else ""
    when = event_time(event)
    where = file_name(fid, path)
    shown = printable(status) or UNKNOWN
    before, after = colours.of_status(status)
    blanks = " " * (8 - len(shown))
    quiet, loud = colours.quiet
    return (
        f"{when} [{printable(mdt)}] {printable(action) or UNKNOWN:<8} {before}{shown}{after}{blanks} -> {where}"
        f" {quiet}(id: {printable(event.id)}{refresh}){loud}"
    )
