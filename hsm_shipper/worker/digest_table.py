"""Numbers by MD5, packed: what a dict of bytes and whole numbers would hold in four times the memory. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from sys import byteorder

_DIGEST_BYTES = 16
_WORDS = _DIGEST_BYTES // 4
_NO_DIGEST = bytes(_DIGEST_BYTES)  # no line has this MD5, but with a chance of 2^-128
_FEWEST_CELLS = 1024
_MANY_CELLS = 1024 * 1024


class DigestTable:
    """A whole number from 1 on for each of many MD5s, no two the same, in some 28 bytes for each of them.

    The MD5s lie one behind the other, in order of their numbers. Beside them is a hash table with open addressing: the
    number of an MD5 is in the cell that its first bytes name, or, where that is taken, in one of the next. A number
    whose MD5 is gone stays in its cell, where it is that of no MD5, or of another one by now.
    """

    NONE = 0
    """What is told of an MD5 that has no number."""

    def __init__(self) -> None:
        self._digests = bytearray(_NO_DIGEST)
        self._cells = array("I", [self.NONE]) * _FEWEST_CELLS
        self._filled = 0
        self._count = 0

    def get(self, digest: bytes, guess: int = NONE) -> int:
        """The number of `digest`, `NONE` if it has none; soon told where it is `guess`."""
        cells, digests = self._cells, self._digests
        if digests[guess * _DIGEST_BYTES : (guess + 1) * _DIGEST_BYTES] == digest:
            return guess
        last = len(cells) - 1
        cell = int.from_bytes(digest[:4], byteorder) & last
        while number := cells[cell]:
            begin = number * _DIGEST_BYTES
            if digests[begin : begin + _DIGEST_BYTES] == digest:
                break
            cell = (cell + 1) & last
        return number

    def get_all(self, digests: Sequence[bytes]) -> Sequence[int]:
        """The numbers of some, in order: soon told where they follow each other as their numbers do."""
        number = self.get(digests[0])
        begin = number * _DIGEST_BYTES
        if number and self._digests[begin : begin + len(digests) * _DIGEST_BYTES] == b"".join(digests):
            return range(number, number + len(digests))
        numbers = []
        for digest in digests:
            begin = number * _DIGEST_BYTES
            found = number if self._digests[begin : begin + _DIGEST_BYTES] == digest else self.get(digest)
            numbers.append(found)
            number = (found or number) + 1
        return numbers

    def add(self, digest: bytes, number: int) -> bool:
        """Give one MD5 a number that no other has; False where it has one."""
        self._fit(1)
        kept, cells, last = self._digests, self._cells, len(self._cells) - 1
        cell = int.from_bytes(digest[:4], byteorder) & last
        while other := cells[cell]:
            if self._is_of(other, digest):
                return False
            cell = (cell + 1) & last
        cells[cell] = number
        begin = number * _DIGEST_BYTES
        if begin >= len(kept):
            kept.extend(bytes(begin + _DIGEST_BYTES - len(kept)))
        kept[begin : begin + _DIGEST_BYTES] = digest
        self._filled += 1
        self._count += 1
        return True

    def add_all(self, digests: Sequence[bytes], numbers: Sequence[int]) -> list[int]:
        """Give each of some MD5s a number that no other has; returns those not given, where the MD5 has one."""
        if not digests:
            return []
        self._fit(len(digests))
        kept, cells, last = self._digests, self._cells, len(self._cells) - 1
        kept.extend(bytes(max(0, (max(numbers) + 1) * _DIGEST_BYTES - len(kept))))
        have_one = []
        heads = memoryview(b"".join(digests)).cast("I")[::_WORDS]
        with memoryview(kept) as view, view.cast("I") as words:
            for head, digest, number in zip(heads, digests, numbers, strict=True):
                cell = head & last
                while other := cells[cell]:
                    if words[other * _WORDS] == head and self._is_of(other, digest):
                        have_one.append(number)
                        break
                    cell = (cell + 1) & last
                else:
                    cells[cell] = number
                    begin = number * _DIGEST_BYTES
                    kept[begin : begin + _DIGEST_BYTES] = digest
        self._filled += len(digests) - len(have_one)
        self._count += len(digests) - len(have_one)
        return have_one

    def free(self, numbers: Sequence[int]) -> None:
        """Take these numbers from the MD5s that have them."""
        if isinstance(numbers, range):
            first, end = numbers.start * _DIGEST_BYTES, numbers.stop * _DIGEST_BYTES
            self._digests[first:end] = bytes(end - first)
        else:
            for number in numbers:
                self._digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES] = _NO_DIGEST
        self._count -= len(numbers)

    def _is_of(self, number: int, digest: bytes) -> bool:
        begin = number * _DIGEST_BYTES
        return self._digests[begin : begin + _DIGEST_BYTES] == digest

    def _fit(self, more: int) -> None:
        """Have cells for so many MD5s more: where there are too few, without those of what is gone."""
        if 3 * (self._filled + more) <= 2 * len(self._cells):
            return
        size = _FEWEST_CELLS
        while size < 2 * (self._count + more):
            size *= 4 if size < _MANY_CELLS else 2  # small ones are to grow seldom, and large ones to take little
        self._cells = array("I")  # both would be in memory else
        cells = self._cells = array("I", [self.NONE]) * size
        self._filled = self._count
        last = size - 1
        with memoryview(self._digests) as digests, digests.cast("I") as words, words[::_WORDS] as heads:
            for number, head in enumerate(heads):
                if head or digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES] != _NO_DIGEST:
                    cell = head & last
                    while cells[cell]:
                        cell = (cell + 1) & last
                    cells[cell] = number
