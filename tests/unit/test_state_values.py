"""What a value of a state file may be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.contract.stream_ids import is_entry_id, pack_id, unpack_id
from hsm_shipper.state import values as values

LARGEST = 2**64 - 1


@given(st.integers(0, LARGEST), st.integers(0, LARGEST))
def test_every_id_that_redis_gives_is_one(ms: int, sequence: int) -> None:
    entry_id = f"{ms}-{sequence}"
    assert is_entry_id(entry_id) and unpack_id(pack_id(entry_id)) == entry_id
    assert values.entries([entry_id, None, "1-1"]) == [entry_id.encode(), b"0-0", b"1-1"]


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "5", "5-", "-5", "+", "5-1-1", "05-1", "5-01", " 5-1", "5-1 ", "5-1\n", "5-1 5-2", "1e3-1", "5_0-1",
        "\u0665-1", "$", "0x5-1", f"{LARGEST + 1}-1", f"1-{LARGEST + 1}",
    ],
)  # fmt: skip
def test_what_is_no_id(text: str) -> None:
    assert not is_entry_id(text)
    with pytest.raises(values.ImpossibleValue, match="entry_id is"):
        values.entries(["1-1", text])


def test_an_impossible_value_is_shown_with_its_column_and_in_few_words() -> None:
    many: list[Any] = [f"{'x' * 500}{number}" for number in range(100)]
    with pytest.raises(values.ImpossibleValue) as found:
        values.digests(many)
    assert str(found.value).startswith("hash is 'xxx") and len(str(found.value)) < 300


@given(st.lists(st.none() | st.binary(min_size=16, max_size=16), min_size=1))
def test_digests_come_back_in_order(told: list[bytes | None]) -> None:
    assert values.digests([digest and digest.hex() for digest in told]) == [digest or bytes(16) for digest in told]


@given(st.lists(st.text(max_size=40), min_size=1))
def test_no_text_is_taken_for_another_hash(texts: list[str]) -> None:
    try:
        found = values.digests(texts)
    except values.ImpossibleValue:
        return
    assert [digest.hex() for digest in found] == [text.lower() for text in texts]
