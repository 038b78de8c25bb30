"""Where a stream ends and what it holds, and whether it has lost entries since we last looked. Pure.

An entry that somebody deletes or trims away leaves the end of a stream as it was. XINFO STREAM tells it all the same,
by the id of the first entry, the number of entries, and (from Redis 7.0 on) the highest id that was ever deleted:

- XADD moves the end and adds to the number; XTRIM removes from the front and moves nothing else;
- XDEL leaves the front, or raises the highest deleted id, or takes one from the number: mostly all three;
- nothing moves the front back but an older copy of the stream that takes its place, and holds entries again that went.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import NamedTuple

from hsm_shipper.contract.stream_ids import pack_id, text_of


class Head(NamedTuple):
    """A stream as it was at one moment, by `XINFO STREAM`."""

    last_id: str
    """The id that was last given to an entry; `0-0` without a stream."""
    newest_id: str | None
    """The newest entry; None where none is left."""
    newest_sha1: str | None
    """SHA-1 of its fields and values, joined by NUL: another entry may have its id after a rollback."""
    first_id: str | None = None
    """The oldest entry; None where none is left."""
    length: int | None = None
    """How many entries there are; None in a state file of an earlier release, which did not keep it."""
    max_deleted_id: str | None = None
    """The highest id that was ever deleted by XDEL; None where the server does not tell (before Redis 7.0)."""

    @classmethod
    def told(
        cls,
        last_id: bytes,
        newest_id: bytes,
        newest_sha1: bytes | str,
        first_id: bytes,
        length: int,
        max_deleted_id: bytes,
    ) -> Head:
        """From a server's answer, in which what is not there or not told is empty."""
        texts = [text_of(word) or None for word in (newest_id, newest_sha1, first_id, max_deleted_id)]
        newest, newest_digest, first, max_deleted = texts
        return cls(text_of(last_id), newest, newest_digest, first, length, max_deleted)

    @property
    def end(self) -> tuple[str, str | None, str | None]:
        """What an append looks at, and nothing of what lies before."""
        return self[:3]

    def grown(self, entry_ids: Sequence[str], newest_sha1: str) -> Head:
        """The same stream with these entries added, the last of which has the digest `newest_sha1`."""
        assert self.length is not None, "this comes from a server, which tells"
        newest_id = entry_ids[-1]
        return Head(
            last_id=newest_id,
            newest_id=newest_id,
            newest_sha1=newest_sha1,
            first_id=self.first_id or entry_ids[0],
            length=self.length + len(entry_ids),
            max_deleted_id=self.max_deleted_id,
        )


def has_losses(known: Head, now: Head, added: int, needs_before: Callable[[str | None], bool]) -> bool:
    """Whether a stream has lost entries that matter since it was `known`; `added` have come by XADD meanwhile.

    `needs_before(id)` tells whether any live action needs an entry before `id`, with None: whether any needs one at
    all. It is asked only if the front has moved, which trimming does.
    """
    if known.length is None:
        return needs_before(now.first_id)
    if None not in (known.max_deleted_id, now.max_deleted_id) and known.max_deleted_id != now.max_deleted_id:
        return True
    if now.first_id is not None and now.first_id == known.first_id:
        return now.length != known.length + added
    if _is_before(now.first_id, known.first_id):
        return True
    return needs_before(now.first_id) or _may_hide_a_deletion(now)


def _is_before(one_id: str | None, other_id: str | None) -> bool:
    return one_id is not None and other_id is not None and pack_id(one_id) < pack_id(other_id)


def _may_hide_a_deletion(now: Head) -> bool:
    """Whether an entry may have been deleted without a trace while the front moved.

    How many went from the front is not known then, so the number of entries tells nothing; and the highest deleted id
    tells only of deletions above itself.
    """
    if now.first_id is None or now.max_deleted_id is None:
        return False
    return pack_id(now.max_deleted_id) > pack_id(now.first_id)


def entry_sha1(parts: Sequence[bytes]) -> str:
    """The digest of an entry's fields and values, as `compare_and_append.lua` computes it."""
    return sha1(b"\0".join(parts), usedforsecurity=False).hexdigest()
