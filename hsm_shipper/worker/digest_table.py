"""Numbers by MD5, packed: what a dict of bytes and whole numbers would hold in four times the memory. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from sys import byteorder

_DIGEST_BYTES = 16
_WORDS = _DIGEST_BYTES // 4
_NO_DIGEST = bytes(_DIGEST_BYTES)  # no line has this MD5, but with a chance of 2^-128
_FEWEST_CELLS = 1024


class DigestTable:
    """A whole number for each of many MD5s, counted from 1 and each given once, in some 28 bytes for each of them.

    The MD5s lie one behind the other, in order of their numbers. Beside them is a hash table with open addressing: the
    number of an MD5 is in the cell that its first bytes name, its home, or, where that is taken, in one of the next.
    Between its home and that cell no cell is empty.
    """

    NONE = 0
    """What is told of an MD5 that has no number."""

    def __init__(self) -> None:
        self._digests = bytearray(_NO_DIGEST)
        self._cells = array("I", [self.NONE]) * _FEWEST_CELLS
        self._count = 0

    def get(self, digest: bytes) -> int:
        """The number of `digest`, `NONE` if it has none."""
        return self._cells[self._cell_of(digest)]

    def get_all(self, digests: Sequence[bytes]) -> Sequence[int]:
        """The numbers of some, in order: soon told where they follow each other as their numbers do."""
        number = self.get(digests[0])
        begin = number * _DIGEST_BYTES
        if number and self._digests[begin : begin + len(digests) * _DIGEST_BYTES] == b"".join(digests):
            return range(number, number + len(digests))
        numbers = []
        for digest in digests:
            found = number if self._is_of(number, digest) else self.get(digest)
            numbers.append(found)
            number = (found or number) + 1
        return numbers

    def add(self, digest: bytes, number: int) -> bool:
        """Give `digest` a number that no other has; False, and it keeps its own, if it has one."""
        if 3 * self._count >= 2 * len(self._cells):
            self._make_room(1)
        cell = self._cell_of(digest)
        if self._cells[cell]:
            return False
        self._cells[cell] = number
        begin = number * _DIGEST_BYTES
        if begin > len(self._digests):  # there are numbers that no MD5 has
            self._digests.extend(bytes(begin - len(self._digests)))
        self._digests[begin : begin + _DIGEST_BYTES] = digest
        self._count += 1
        return True

    def extend(self, digests: Sequence[bytes], number: int) -> list[int]:
        """Give many MD5s the numbers from `number` on, beyond all that were given; those that have one keep it.

        Returns where those lie among `digests`.
        """
        self._make_room(len(digests))
        self._digests.extend(bytes(number * _DIGEST_BYTES - len(self._digests)))  # there are numbers that no MD5 has
        begin = len(self._digests)
        self._digests += b"".join(digests)
        had_one = []
        cells, last = self._cells, len(self._cells) - 1
        with memoryview(self._digests) as kept, kept.cast("I") as words, words[begin // 4 :: _WORDS] as heads:
            for at, head in enumerate(heads):
                cell = head & last
                while found := cells[cell]:
                    if words[_WORDS * found] == head and self._is_of(found, digests[at]):
                        had_one.append(at)
                        break
                    cell = (cell + 1) & last
                else:
                    cells[cell] = number + at
        for at in had_one:
            self._forget(number + at)
        self._count += len(digests) - len(had_one)
        return had_one

    def pop(self, digest: bytes) -> int:
        """Take its number from `digest`; `NONE` if it has none."""
        cell = self._cell_of(digest)
        number = self._cells[cell]
        if number:
            self._empty(cell)
            self._forget(number)
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

    def _is_of(self, number: int, digest: bytes) -> bool:
        begin = number * _DIGEST_BYTES
        return self._digests[begin : begin + _DIGEST_BYTES] == digest

    def _forget(self, number: int) -> None:
        self._digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES] = _NO_DIGEST

    def _empty(self, cell: int) -> None:
        """Empty a cell: who stands behind it because it was taken moves up, and so on."""
        cells, digests = self._cells, self._digests
        last = len(cells) - 1
        behind = (cell + 1) & last
        while number := cells[behind]:
            begin = number * _DIGEST_BYTES
            home = int.from_bytes(digests[begin : begin + 4], byteorder) & last
            if (behind - home) & last >= (behind - cell) & last:
                cells[cell] = number
                cell = behind
            behind = (behind + 1) & last
        cells[cell] = self.NONE

    def _make_room(self, more: int) -> None:
        """Have cells for so many MD5s more, and still a third of all cells empty."""
        size = len(self._cells)
        while 3 * (self._count + more) > 2 * size:
            size *= 2
        if size == len(self._cells):
            return
        cells = self._cells = array("I", [self.NONE]) * size
        last = size - 1
        with memoryview(self._digests) as kept, kept.cast("I") as words, words[::_WORDS] as heads:
            for number, head in enumerate(heads):
                if head or not self._is_of(number, _NO_DIGEST):
                    cell = head & last
                    while cells[cell]:
                        cell = (cell + 1) & last
                    cells[cell] = number
