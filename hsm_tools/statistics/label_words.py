"""Words from a stream as labels of metrics: few of them, and plain. Pure."""

from __future__ import annotations

import re

from hsm_tools.command.kernel_words import KERNEL_WORDS

OTHER = "other"
UNKNOWN = "unknown"
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}", re.ASCII)


class LabelWords:
    """Passes the kernel's words, and the first few others that look like words; the rest is `other`.

    What a word has become it stays: a counter never moves to another series.
    """

    def __init__(self, others_max: int) -> None:
        self._others: set[str] = set()
        self._others_max = others_max

    def __call__(self, word: str | None) -> str:
        """The label for `word`; `unknown` for None and nothing."""
        if not word:
            return UNKNOWN
        if word in KERNEL_WORDS or word in self._others:
            return word
        if word.lower() == OTHER or len(self._others) >= self._others_max or _PLAIN.fullmatch(word) is None:
            return OTHER
        self._others.add(word)
        return word
