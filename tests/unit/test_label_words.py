"""Words from a stream as labels: plain and few."""

from __future__ import annotations

import pytest

from hsm_tools.statistics.label_words import LabelWords


@pytest.mark.parametrize("word", ["ARCHIVE", "CANCELED", "UNKNOWN", "disabled"])
def test_the_kernels_words_pass_whatever_came_before(word: str) -> None:
    words = LabelWords(0)
    assert words(word) == word


def test_the_first_few_others_pass_and_stay() -> None:
    words = LabelWords(2)
    assert [words(word) for word in ("MIGRATE", "NEW", "LATER", "MIGRATE", "LATER")] == [
        "MIGRATE",
        "NEW",
        "other",
        "MIGRATE",
        "other",
    ]


@pytest.mark.parametrize("word", ["a b", "a\n", "", "ä", "A" * 65, '"', "\\", "a,b", "=", "-a", "\u0661"])
def test_what_is_no_plain_word_is_other_and_takes_no_place(word: str) -> None:
    words = LabelWords(1)
    assert words(word) == ("other" if word else "unknown")
    assert words("MIGRATE") == "MIGRATE"


def test_nothing_is_unknown() -> None:
    assert LabelWords(1)(None) == "unknown"
