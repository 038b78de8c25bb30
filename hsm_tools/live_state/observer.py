"""What tools note of a stream while it is folded: its events are counted, and its live actions get their archives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from hsm_shipper.contract.event import Event
from hsm_shipper.contract.fold import Observer
from hsm_shipper.contract.live_action import LiveAction
from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.stream.page_reader import Entry
from hsm_tools.live_state.tally import Tally, Told, told_by
from hsm_tools.record import archive_id, archive_text

_ARCHIVES_MAX = 1000


class _ArchiveIds(dict[str, int | None]):
    """Archive ids by their texts: there are few of them, but in streams full of nonsense."""

    def __missing__(self, text: str) -> int | None:
        found = archive_id(text)
        if found is not None and len(self) < _ARCHIVES_MAX:
            self[text] = found
        return found


class ToolsObserver(Observer):
    """Counts the events of one fold in `tally`; those that the tally has counted before are not counted again."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._counted_to = pack_id(tally.last)
        # Counted when the page is done: of one that cannot be folded to its end, nothing is.
        self._told: defaultdict[Told, int] = defaultdict(int)
        self._archive_ids = _ArchiveIds()

    def folded(self, entry_id: bytes, event: Event, before: LiveAction | None, after: LiveAction | None, /) -> None:
        """Note one event."""
        # Every step here is taken a million times.
        if after is not None:
            raw = event.raw
            if raw is not None:
                after.archive_id = self._archive_ids[archive_text(raw)]
        if not self._counted_to or pack_id(entry_id) > self._counted_to:
            self._told[told_by(event, before)] += 1

    def page_folded(self, page: Sequence[Entry], malformed: Sequence[bytes], /) -> None:
        """Count what was noted of a page."""
        if self._counted_to:
            page = [entry for entry in page if pack_id(entry[0]) > self._counted_to]
            malformed = [entry_id for entry_id in malformed if pack_id(entry_id) > self._counted_to]
            if page:
                self._counted_to = 0
        self._tally.add(page, self._told, len(malformed))
        self._told.clear()
