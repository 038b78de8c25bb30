"""Numbers by MD5, packed: what a dict of bytes and whole numbers would hold in four times the memory. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_DIGEST_BYTES = 16
_NUMBER_BYTES = 4
_ENTRY_BYTES = _DIGEST_BYTES + _NUMBER_BYTES
# One for each value of an MD5's first 14 bits: some 20 entries in each at 350,000 lines.
_DRAWERS = 16_384


class DigestTable:
    """A whole number from 1 to 2^32 - 1 for each of many MD5s, in some 22 bytes for each of them.

    An entry lies in the drawer that the first bits of its MD5 name. A drawer is a bytes object in which entry
    follows entry, so looking in it is one search for the MD5.
    """

    NONE = 0
    """What is told of an MD5 that has no number."""

    def __init__(self) -> None:
        self._drawers = [b""] * _DRAWERS

    def get(self, digest: bytes) -> int:
        """The number of `digest`, `NONE` if it has none."""
        drawer = self._drawers[digest[0] << 6 | digest[1] >> 2]
        at = drawer.find(digest)
        if at % _ENTRY_BYTES:  # almost always: it is not there
            at = _entry_of(digest, drawer, at)
            if at < 0:
                return self.NONE
        return int.from_bytes(drawer[at + _DIGEST_BYTES : at + _ENTRY_BYTES], "big")

    def get_all(self, digests: Iterable[bytes]) -> list[int]:
        """The numbers of many, in order."""
        return list(map(self.get, digests))

    def add(self, digest: bytes, number: int) -> bool:
        """Give `digest` a number; False, and it keeps its own, if it has one."""
        which = digest[0] << 6 | digest[1] >> 2
        drawer = self._drawers[which]
        if _entry_of(digest, drawer, drawer.find(digest)) >= 0:
            return False
        self._drawers[which] = drawer + digest + number.to_bytes(_NUMBER_BYTES, "big")
        return True

    def pop(self, digest: bytes) -> int:
        """Take its number from `digest`; `NONE` if it has none."""
        which = digest[0] << 6 | digest[1] >> 2
        drawer = self._drawers[which]
        at = _entry_of(digest, drawer, drawer.find(digest))
        if at < 0:
            return self.NONE
        self._drawers[which] = drawer[:at] + drawer[at + _ENTRY_BYTES :]
        return int.from_bytes(drawer[at + _DIGEST_BYTES : at + _ENTRY_BYTES], "big")


def _entry_of(digest: bytes, drawer: bytes, at: int) -> int:
    """Where the entry of `digest` begins, -1 without one; its bytes were met at `at`, maybe across two others."""
    while at >= 0 and at % _ENTRY_BYTES:
        at = drawer.find(digest, at + 1)
    return at
