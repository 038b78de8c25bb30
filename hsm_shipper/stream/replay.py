"""Reads a stream from its first entry and folds it: what is live, which entry each live action needs, what is wrong."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from hsm_shipper.contract.fold import ActionFold, Entry, Observer
from hsm_shipper.contract.stream_head import Head
from hsm_shipper.contract.stream_ids import EMPTY_ID, pack_id
from hsm_shipper.errors import ReplayOvertaken
from hsm_shipper.stream.stream import ActionStream

REPLAYS_MAX = 5  # a trim takes far less time than a replay, so it hardly overtakes two in a row
_EXAMPLES_MAX = 5
_STEP_ENTRIES = 100  # every so often we remember where in the stream we are, at first
_MARKS_MAX = 20_000
_CHUNK_ENTRIES = 1000  # trimmed at once: a few ms for the server


class Replay:
    """A fold of a stream that remembers where its entries lie. `go_on` brings it further."""

    def __init__(
        self,
        stream: ActionStream,
        on_page: Callable[[list[Entry]], None] = lambda _: None,
        *,
        observer: Callable[[], Observer | None] = lambda: None,
        digests: bool = True,
    ) -> None:
        """`on_page` is given every page before it is folded; it may raise to end a replay that may not go on.

        `observer` makes one for each fold that is begun. Without `digests` those of our own shipper's lines are not
        kept (see `ActionFold`).
        """
        self._stream = stream
        self._observer = observer
        self._digests = digests
        self._on_page = on_page
        self._begin()

    def _begin(self) -> None:
        self.live = ActionFold(self._observer(), digest_of=None if self._digests else self._stream.line_digest_of)
        self.entries = 0
        self.malformed = 0
        self.malformed_ids: list[str] = []
        """The first few ids of malformed entries."""
        self.until = EMPTY_ID
        """The id that was folded up to, whether or not an entry has it."""
        self.index = EntryIndex()
        self._first_entry: str | None = None
        self._last_entry: str | None = None
        self._max_deleted_id: str | None = None

    def go_on(self, until: str, *, holding: Head | None = None) -> None:
        """Fold what lies between here and the id `until`; from the first entry again if a trim overtakes.

        With `holding` only from a server whose stream holds that head, see `ActionStream.replay`.
        """
        for _ in range(REPLAYS_MAX):
            try:
                self.step(until, holding=holding)
                return
            except ReplayOvertaken:
                self.start_over()
        raise ReplayOvertaken(f"stream {self._stream.key} is trimmed faster than it can be read")

    def start_over(self, *, digests: bool = False) -> None:
        """Forget what was read: the next step begins with the first entry; `digests` has them kept from now on."""
        self._digests = self._digests or digests
        self._begin()

    def step(self, until: str, *, holding: Head | None = None) -> None:
        """The same as `go_on`, but for starting over: `ReplayOvertaken` says that it is needed."""
        for page in self._stream.replay(until, self._last_entry, holding=holding, on_head=self._note_head):
            self._on_page(page)
            self.index.add(page, self.entries)
            self.entries += len(page)
            self._note(self.live.fold_page(page))
            if self._first_entry is None:
                self._first_entry = page[0][0].decode()
            self._last_entry = page[-1][0].decode()
        self.until = until

    def head(self, end: Head) -> Head:
        """The head of what was folded, of which `end` tells the end: what somebody deletes meanwhile is still in it."""
        return end._replace(first_id=self._first_entry, length=self.entries, max_deleted_id=self._max_deleted_id)

    def _note_head(self, now: Head) -> None:
        self._max_deleted_id = now.max_deleted_id

    @property
    def reached(self) -> Reached:
        """How far it is, for `continue_from`; what is live is not in it."""
        return Reached(
            self.until,
            self._first_entry,
            self._last_entry,
            self._max_deleted_id,
            self.entries,
            self.malformed,
            self.malformed_ids,
            self.index,
        )

    def continue_from(self, reached: Reached) -> None:
        """Be where another replay of the same stream was; whoever says so puts what was live there into `live`."""
        self._begin()
        self.until = reached.until
        self._first_entry, self._last_entry = reached.first_entry, reached.last_entry
        self._max_deleted_id = reached.max_deleted_id
        self.entries, self.malformed = reached.entries, reached.malformed
        self.malformed_ids, self.index = reached.malformed_ids, reached.index

    def _note(self, malformed: list[bytes]) -> None:
        self.malformed += len(malformed)
        room = _EXAMPLES_MAX - len(self.malformed_ids)
        self.malformed_ids.extend(entry_id.decode() for entry_id in malformed[:room])


@dataclass(frozen=True)
class Reached:
    """How far a replay is: what it keeps under these names, but for what is live."""

    until: str
    first_entry: str | None
    last_entry: str | None
    max_deleted_id: str | None
    entries: int
    malformed: int
    malformed_ids: list[str]
    index: EntryIndex


class EntryIndex:
    """How many entries lie before an id, of the entries of a stream in order; its memory is bounded."""

    def __init__(self) -> None:
        self._step = _STEP_ENTRIES
        self._marks: list[int] = []  # packed ids

    def add(self, page: list[Entry], before: int) -> None:
        """Take in the next entries, with `before` entries before them."""
        self._marks.extend(pack_id(page[at][0]) for at in range(-before % self._step, len(page), self._step))
        if len(self._marks) > _MARKS_MAX:
            del self._marks[1::2]
            self._step *= 2

    def ordinal(self, entry: int) -> int:
        """How many entries lie before the packed id `entry`: never too many, at most a step too few."""
        return max(0, bisect_right(self._marks, entry) - 1) * self._step

    def chunk_ends(self, end: int) -> list[int]:
        """Packed ids before `end`, some 1,000 entries apart."""
        marks = max(1, _CHUNK_ENTRIES // self._step)
        return [entry for entry in self._marks[marks::marks] if entry < end]
