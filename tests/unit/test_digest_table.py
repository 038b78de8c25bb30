"""Numbers by MD5 against a dict: also where the bytes of one MD5 stand across the entries of others."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from hsm_shipper.worker.digest_table import DigestTable

# All in one drawer, of few different bytes.
DIGESTS = st.lists(st.sampled_from([0, 1]), min_size=14, max_size=14).map(lambda tail: b"\0\0" + bytes(tail))
NUMBERS = st.sampled_from([1, 256, 65_536, 16_777_216, 2**32 - 1])


class Numbers(RuleBasedStateMachine):
    """MD5s that get numbers, and lose them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = DigestTable()
        self.model: dict[bytes, int] = {}

    @rule(digest=DIGESTS, number=NUMBERS)
    def add(self, digest: bytes, number: int) -> None:
        if digest not in self.model:
            self.model[digest] = number
            self.table.add(digest, number)

    @rule(digest=DIGESTS)
    def pop_any(self, digest: bytes) -> None:
        assert self.table.pop(digest) == self.model.pop(digest, DigestTable.NONE)

    @rule(data=st.data())
    @precondition(lambda self: self.model)
    def pop(self, data: st.DataObject) -> None:
        digest = data.draw(st.sampled_from(sorted(self.model)))
        assert self.table.pop(digest) == self.model.pop(digest)

    @rule(digests=st.lists(DIGESTS))
    def get(self, digests: list[bytes]) -> None:
        asked = [*self.model, *digests]
        assert self.table.get_all(asked) == [self.model.get(digest, DigestTable.NONE) for digest in asked]


TestNumbers = Numbers.TestCase
