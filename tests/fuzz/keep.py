"""What of the inputs that were found is worth keeping: the smallest ones that reach something of ours no other does."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.targets import TARGETS

_OURS = ("/hsm_shipper/", "/hsm_tools/")

Arc = tuple[str, int, int]
"""File, line before, line after."""


def keep(name: str, found: Path, corpus: Path) -> int:
    """Copy into `corpus` what of `found` reaches more than it does by then; returns how many that were."""
    reached: set[Arc] = set()
    for data in _inputs(corpus):
        reached |= _arcs(TARGETS[name], data)
    kept = 0
    for data in _inputs(found):
        arcs = _arcs(TARGETS[name], data)
        if arcs - reached:
            reached |= arcs
            kept += 1
            (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()[:12]).write_bytes(data)
    return kept


def _inputs(folder: Path) -> Iterable[bytes]:
    """The smallest first."""
    return sorted((file.read_bytes() for file in folder.iterdir()), key=lambda data: (len(data), data))


def _arcs(target: Callable[[bytes], None], data: bytes) -> set[Arc]:
    """The steps from line to line in our code that an input takes."""
    arcs: set[Arc] = set()

    def entered(frame: FrameType, _event: str, _arg: Any) -> Any:
        file = frame.f_code.co_filename
        if not any(part in file for part in _OURS):
            return None
        before = -frame.f_code.co_firstlineno

        def stepped(frame: FrameType, event: str, _arg: Any) -> Any:
            nonlocal before
            if event == "line":
                arcs.add((file, before, frame.f_lineno))
                before = frame.f_lineno
            return stepped

        return stepped

    sys.settrace(entered)
    try:
        target(data)
    finally:
        sys.settrace(None)
    return arcs
