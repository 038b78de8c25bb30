"""Numbers by MD5, packed: what a dict of bytes and whole numbers would hold in four times the memory. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from sys import byteorder

_DIGEST_BYTES = 16
_NO_DIGEST = bytes(_DIGEST_BYTES)  # no line has this MD5, but with a chance of 2^-128
_FEWEST_CELLS = 1024
# A cell whose MD5 is gone: who looks for one that was put behind it has to look further.
_EMPTIED = 0xFFFF_FFFF


class DigestTable:
    """A whole number for each of many MD5s, counted from 1 and each given once, in some 28 bytes for each of them.

    The MD5s lie one behind the other, in order of their numbers. Beside them is a hash table with open addressing: the
    number of an MD5 is in the cell that its first bytes name, or, where that is taken, in one of the next.
    """

    NONE = 0
    """What is told of an MD5 that has no number."""

    def __init__(self) -> None:
        self._digests = bytearray(_NO_DIGEST)
        self._cells = array("I", [self.NONE]) * _FEWEST_CELLS
        self._filled = 0
        """Cells that are not empty, be they emptied."""
        self._count = 0

    def get(self, digest: bytes) -> int:
        """The number of `digest`, `NONE` if it has none."""
        return self._cells[self._cell_of(digest)]

    def get_all(self, digests: Sequence[bytes]) -> list[int]:
        """The numbers of some, in order: soon told where they follow each other as their numbers do."""
        number = self.get(digests[0])
        begin = number * _DIGEST_BYTES
        if number and self._digests[begin : begin + len(digests) * _DIGEST_BYTES] == b"".join(digests):
            return list(range(number, number + len(digests)))
        numbers = []
        for digest in digests:
            begin = number * _DIGEST_BYTES
            found = number if self._digests[begin : begin + _DIGEST_BYTES] == digest else self.get(digest)
            numbers.append(found)
            number = (found or number) + 1
        return numbers

    def add(self, digest: bytes, number: int) -> bool:
        """Give `digest` a number that no other has; False, and it keeps its own, if it has one."""
        cell = self._cell_of(digest)
        if self._cells[cell]:
            return False
        self._cells[cell] = number
        begin = number * _DIGEST_BYTES
        if begin > len(self._digests):  # there are numbers that no MD5 has
            self._digests.extend(bytes(begin - len(self._digests)))
        self._digests[begin : begin + _DIGEST_BYTES] = digest
        self._filled += 1
        self._count += 1
        if 3 * self._filled > 2 * len(self._cells):
            self._rebuild()
        return True

    def pop(self, digest: bytes) -> int:
        """Take its number from `digest`; `NONE` if it has none."""
        cell = self._cell_of(digest)
        number = self._cells[cell]
        if number:
            self._cells[cell] = _EMPTIED
            self._digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES] = _NO_DIGEST
            self._count -= 1
        return number

    def _cell_of(self, digest: bytes) -> int:
        """The cell with the number of `digest`, or the empty one that it is to get."""
        cells, digests = self._cells, self._digests
        last = len(cells) - 1
        cell = int.from_bytes(digest[:4], byteorder) & last
        while number := cells[cell]:
            begin = number * _DIGEST_BYTES
            if digests[begin : begin + _DIGEST_BYTES] == digest:
                break
            cell = (cell + 1) & last
        return cell

    def _rebuild(self) -> None:
        """Without cells that were emptied, and a few times as large as it needs to be now."""
        size = _FEWEST_CELLS
        while size < 2 * self._count:
            size *= 4
        cells = self._cells = array("I", [self.NONE]) * size
        self._filled = self._count
        last = size - 1
        with memoryview(self._digests) as digests, digests.cast("I") as words, words[:: _DIGEST_BYTES // 4] as heads:
            for number, head in enumerate(heads):
                if head or digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES] != _NO_DIGEST:
                    cell = head & last
                    while cells[cell]:
                        cell = (cell + 1) & last
                    cells[cell] = number
