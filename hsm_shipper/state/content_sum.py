"""How many live actions a state file holds, and a sum over them: by that a file of two times is noticed. Pure.

SQLite finds a page that is broken, and not one that is of another day: where an old copy is put in the place of a file
whose log is still there, the pages that the log holds are laid over the copy's, and all of them are sound.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from operator import mul
from typing import NamedTuple

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.process.batched import batched

_MODULUS = 1 << 63  # what an integer of SQLite holds
_ACTIONS_AT_ONCE = 1000


class ContentSum(NamedTuple):
    """Of all rows: half of each MD5 times its place, so that two that changed places are told apart too."""

    actions: int = 0
    sum: int = 0

    def with_rows(self, places: Sequence[int], digests: Sequence[bytes]) -> ContentSum:
        """With these rows too: packed places, and MD5s of 16 bytes each."""
        halves = struct.unpack(f"<{2 * len(places)}Q", b"".join(digests))[::2]
        odd = [2 * place + 1 for place in places]
        # Plus one: a row whose line is not known counts as well.
        return ContentSum(self.actions + len(places), (self.sum + sum(map(mul, halves, odd)) + sum(odd)) % _MODULUS)

    def with_actions(self, actions: Iterable[ActionState]) -> ContentSum:
        """With these actions too."""
        total = self
        for some in batched(actions, _ACTIONS_AT_ONCE):
            total = total.with_rows([action.place for action in some], [action.mark[:16] for action in some])
        return total

    def without_actions(self, actions: Iterable[ActionState]) -> ContentSum:
        """Without these, which are in it."""
        gone = ContentSum().with_actions(actions)
        return ContentSum(self.actions - gone.actions, (self.sum - gone.sum) % _MODULUS)
