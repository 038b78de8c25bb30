"""Reads a stream from its first entry and folds it: what is live, which entry each live action needs, what is wrong."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from hsm_shipper.errors import MalformedEvent, ReplayOvertaken
from hsm_shipper.events import decode
from hsm_shipper.fold import LiveActions, pack_id
from hsm_shipper.stream import EMPTY_ID, ActionStream

_REPLAYS_MAX = 5  # a trim takes far less time than a replay, so it hardly overtakes two in a row
_EXAMPLES_MAX = 5
_INDEX_STEP = 100  # entries; every so often we remember where in the stream we are
_CHUNK_STEPS = 10  # 1,000 entries are trimmed at once: a few ms for the server


class Replay:
    """A fold of a stream that remembers where its entries lie. `go_on` brings it further."""

    def __init__(self, stream: ActionStream, between_pages: Callable[[], None] = lambda: None) -> None:
        """`between_pages` may raise to end a replay that has lost its right to go on."""
        self._stream = stream
        self._between_pages = between_pages
        self._begin()

    def _begin(self) -> None:
        self.live = LiveActions()
        self.entries = 0
        self.malformed = 0
        self.malformed_ids: list[str] = []
        """The first few ids of malformed entries."""
        self.until = EMPTY_ID
        """The id that was folded up to, whether or not an entry has it."""
        self._last_entry: str | None = None
        self._index: list[int] = []  # packed id of every so manieth entry

    def go_on(self, until: str) -> None:
        """Fold what lies between here and the id `until`; from the first entry again if a trim overtakes."""
        for _ in range(_REPLAYS_MAX):
            try:
                self._fold(until)
                return
            except ReplayOvertaken:
                self._begin()
        raise ReplayOvertaken(f"stream {self._stream.key} is trimmed faster than it can be read")

    def ordinal(self, entry: int) -> int:
        """How many entries lie before the packed id `entry`: never too many, at most 100 too few."""
        return max(0, bisect_right(self._index, entry) - 1) * _INDEX_STEP

    def chunk_ends(self, end: int) -> list[int]:
        """Packed ids before `end`, some 1,000 entries apart."""
        return [entry for entry in self._index[_CHUNK_STEPS::_CHUNK_STEPS] if entry < end]

    def _fold(self, until: str) -> None:
        for page in self._stream.replay(until, self._last_entry):
            self._between_pages()
            for entry in page:
                if self.entries % _INDEX_STEP == 0:
                    self._index.append(pack_id(entry.id))
                self.entries += 1
                try:
                    self.live.apply(entry.id, decode(entry.data))
                except MalformedEvent:
                    self.malformed += 1
                    if len(self.malformed_ids) < _EXAMPLES_MAX:
                        self.malformed_ids.append(entry.id)
            self._last_entry = page[-1].id
        self.until = until
