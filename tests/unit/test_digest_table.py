"""Numbers by MD5 against a dict: also where many MD5s want the same cell, and where many are gone."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hsm_shipper.worker.digest_table import DigestTable

# Of few different beginnings, which tell the cell; the first is that of cells at the end of the table.
DIGESTS = st.builds(
    lambda head, tail: head + bytes(tail),
    st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\1\0\0\0"]),
    st.lists(st.sampled_from([0, 1]), min_size=12, max_size=12),
).filter(any)


class Numbers(RuleBasedStateMachine):
    """MD5s that get numbers, and lose them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = DigestTable()
        self.model: dict[bytes, int] = {}
        self.free: list[int] = []
        self.next = 1

    @rule(digests=st.lists(DIGESTS, max_size=30), unnumbered=st.integers(0, 3))
    def add(self, digests: list[bytes], unnumbered: int) -> None:
        """Some may have a number by now, or come twice; some numbers may have gone to what has no MD5."""
        numbers = [self.free.pop() for _ in digests[: len(self.free)]]
        numbers += range(self.next + unnumbered, self.next + unnumbered + len(digests) - len(numbers))
        have_one = [
            number
            for digest, number in zip(digests, numbers, strict=True)
            if self.model.setdefault(digest, number) != number
        ]
        assert self.table.add_all(digests, numbers) == have_one
        self.free += have_one
        self.next = max([self.next, *(number + 1 for number in numbers)])

    @rule(begin=st.integers(0, 2**32), count=st.integers(1, 400))
    def add_many(self, begin: int, count: int) -> None:
        """The table grows, and is made anew without what is gone."""
        self.add([at.to_bytes(5, "big") + b"\1" * 11 for at in range(begin, begin + count)], 0)

    @rule(count=st.integers(1, 400))
    def pop_many(self, count: int) -> None:
        self._free(list(self.model)[:count])

    @rule(digest=DIGESTS)
    def pop_any(self, digest: bytes) -> None:
        if digest in self.model:
            self._free([digest])
        assert self.table.get(digest) == DigestTable.NONE

    @rule(data=st.data())
    @precondition(lambda self: self.model)
    def get_in_order(self, data: st.DataObject) -> None:
        """As lines of a listing are asked for, of which some are not known, or stand elsewhere."""
        known = sorted(self.model, key=self.model.__getitem__)
        first = data.draw(st.integers(0, len(known) - 1))
        asked = known[first : first + 10]
        for digest in data.draw(st.lists(DIGESTS, max_size=3)):
            asked.insert(data.draw(st.integers(0, len(asked))), digest)
        assert list(self.table.get_all(asked)) == [self.model.get(digest, DigestTable.NONE) for digest in asked]

    @invariant()
    def tells_what_a_dict_tells(self) -> None:
        assert {digest: self.table.get(digest) for digest in self.model} == self.model

    def _free(self, digests: list[bytes]) -> None:
        numbers = self.table.get_all(digests) if digests else []
        assert list(numbers) == [self.model.pop(digest) for digest in digests]
        self.table.free(numbers)
        self.free += numbers


TestNumbers = Numbers.TestCase
TestNumbers.settings = settings(max_examples=20, stateful_step_count=12, deadline=None)
