"""`python -m tests.fuzz.engine TARGET FOUND [libFuzzer's options]`: atheris in a process of its own; FOUND is a folder.

libFuzzer ends the process, with a status other than 0 where an input raised, hung or took too much memory.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from pathlib import Path

_OBJECTS = ("event", "heartbeat")
CORPUS = Path(__file__).parent / "corpus"


def main(name: str, found: str, *options: str) -> None:
    """Fuzz `name` from its kept corpus; what covers more is put into the folder `found`."""
    import atheris

    with atheris.instrument_imports(include=["hsm_shipper", "hsm_tools"]):
        from tests.fuzz.targets import MAX_BYTES, TARGETS
    from tests.fuzz.mutants import formed

    _replace_what_is_slow()
    command = [sys.argv[0], f"-max_len={MAX_BYTES[name]}", *options, found, str(CORPUS / name)]

    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        """Every other time one that keeps its form; mostly one change of libFuzzer's own beside it."""
        changed = formed(data, seed) if seed % 2 else None
        if changed is None or len(changed) > max_bytes:
            return bytes(atheris.Mutate(data, max_bytes))
        return changed

    atheris.Setup(command, TARGETS[name], custom_mutator=mutate if name in _OBJECTS else None)
    atheris.Fuzz()


def _replace_what_is_slow() -> None:
    """By what does the same: YAML's parser, and the search for the nearest key; neither is what is looked at here.

    Each takes longer than all of ours together. The tests run the same inputs with them.
    """
    import yaml

    if yaml.__with_libyaml__:
        yaml.SafeLoader = yaml.CSafeLoader  # type: ignore[assignment,misc] # `safe_load` looks it up when it is called
    difflib.get_close_matches = _first  # type: ignore[assignment]


def _first(_word: str, possibilities: Iterable[str], **_how: object) -> list[str]:
    return [next(iter(possibilities))]


if __name__ == "__main__":
    main(*sys.argv[1:])
