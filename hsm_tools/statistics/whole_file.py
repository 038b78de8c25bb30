"""Files that others read at any time: replaced as a whole, or left as they were."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from hsm_shipper.errors import ConfigError, HsmError

_MODE = 0o644


def write_whole(file: Path, text: str) -> None:
    """Make `text` the content of `file`, readable by all.

    Whoever reads it, and whatever happens meanwhile, finds the old content or the new. Raises `HsmError` if it cannot
    be written, `ConfigError` for a path that names no ordinary file.
    """
    try:
        if file.exists() and not file.is_file():
            raise ConfigError(f"{file} is no ordinary file", "name one, or print to standard output")
        # Hidden, and without the name's ending: a collector of *.prom must not read it half written.
        descriptor, draft = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".draft", dir=file.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fchmod(stream.fileno(), _MODE)
                os.fsync(stream.fileno())
            Path(draft).replace(file)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(draft).unlink()
            raise
    except OSError as error:
        hint = "the file is as it was: check the folder, its permissions and its room"
        raise HsmError(f"cannot write {file}: {error.strerror}", hint) from None
