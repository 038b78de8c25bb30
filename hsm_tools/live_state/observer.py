"""What tools note of a stream while it is folded: its events are counted, and its live actions get their archives."""

from __future__ import annotations

from collections.abc import Sequence

from hsm_shipper.contract.fold import Entry, Folded, Observer
from hsm_shipper.contract.stream_ids import pack_id
from hsm_tools.live_state.tally import Tally, told_by
from hsm_tools.record import ARCHIVE_KEY, archive_id

_ARCHIVES_MAX = 1000
_HASH_AT = ARCHIVE_KEY.index("#")
# The key, sign, ten digits, and the blank behind them: so much of a line tells its archive.
_ARCHIVE_CHARACTERS = len(ARCHIVE_KEY) + 12


class ToolsObserver(Observer):
    """Counts the events of one fold in `tally`; those that the tally has counted before are not counted again."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._counted_to = pack_id(tally.last)
        # By what lines say of them: there are few such texts, but in streams full of nonsense.
        self._archive_ids: dict[str, int] = {}

    def page_folded(self, page: Sequence[Entry], folded: Sequence[Folded], malformed: Sequence[bytes], /) -> None:
        """Note archives, and count what was not counted before."""
        self._note_archives(folded)
        if self._counted_to:
            page = [entry for entry in page if pack_id(entry[0]) > self._counted_to]
            folded = [event for event in folded if pack_id(event[0]) > self._counted_to]
            malformed = [entry_id for entry_id in malformed if pack_id(entry_id) > self._counted_to]
            if page:
                self._counted_to = 0
        self._tally.add(page, [told_by(event, before, after) for _, event, before, after in folded], len(malformed))

    def _note_archives(self, folded: Sequence[Folded]) -> None:
        archive_ids = self._archive_ids
        for _, event, _, after in folded:
            raw = event.raw
            if after is not None and raw is not None:
                begin = raw.find("#") - _HASH_AT  # a third of the time that looking for all of the key takes
                said = raw[begin : begin + _ARCHIVE_CHARACTERS]
                found = archive_ids.get(said)
                after.archive_id = self._archive_id(said, raw) if found is None else found

    def _archive_id(self, said: str, line: str) -> int | None:
        """What no line has said before, or not at its first `#`."""
        found = archive_id(line.partition(ARCHIVE_KEY)[2])
        if found is not None and said.startswith(ARCHIVE_KEY) and len(self._archive_ids) < _ARCHIVES_MAX:
            self._archive_ids[said] = found
        return found
