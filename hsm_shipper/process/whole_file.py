"""Files that others read at any time: replaced as a whole, or left as they were."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Make `content` that of `path`, with these permissions whatever the umask. Raises `OSError`.

    Whoever reads it, and whatever happens meanwhile, finds the old content or the new: what is there in part, on a
    full disk, would be taken for whole.
    """
    import tempfile  # late: it costs as much as the rest of a short command

    # Hidden, and without the name's ending: a collector of *.prom, and supervisord, must not read it half written.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".draft", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            draft.unlink()
        raise
