"""Every Redis key of the project.

| key                               | type   | written by  | what                                           |
|-----------------------------------|--------|-------------|------------------------------------------------|
| `<prefix>:<mdt>`                  | stream | worker      | the events of one MDT, field `data`            |
| `{<prefix>:<mdt>}:heartbeat`      | string | worker      | JSON of the last poll, expires                 |
| `{<prefix>:<mdt>}:maintenance`    | string | maintenance | lock of the one maintenance run on this stream |
| `{<prefix>:<mdt>}:kept`           | string | worker      | empty, for a moment: WAIT wants a write        |
| `{<prefix>:<mdt>}:check`          | stream | `check`     | what it may do there; removed at once          |

The braces make all of an MDT hash to one cluster slot, and keep all but the stream from ever matching `<prefix>:*`,
which consumers scan for. That is why a prefix may hold no brace and no glob character.
"""

from __future__ import annotations

import re

from hsm_shipper.errors import ConfigError

DEFAULT_PREFIX = "hsm:actions"
DATA_FIELD = b"data"

# <fsname>-MDT<4 hex digits>; fsname is at most 8 letters, digits, `_` (lctl also lets `-` and `.` through).
_MDT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}-MDT[0-9a-fA-F]{4}")
_BAD_IN_PREFIX = re.compile(r"[\s{}*?\[\]\\^\x00-\x1f\x7f]")


def is_mdt_name(name: str) -> bool:
    """Whether `name` is a Lustre MDT name, and so safe in a key, a file name and a supervisord program name."""
    return _MDT_NAME.fullmatch(name) is not None


def check_prefix(prefix: str) -> str:
    """Return `prefix`, or raise `ConfigError` if streams under it could not be found again."""
    if not prefix or _BAD_IN_PREFIX.search(prefix) or not prefix.isprintable():
        raise ConfigError(
            f"stream prefix {prefix!r} cannot be used",
            r"use letters, digits, ':', '-', '_' and '.': no blanks, braces or glob characters (* ? [ ] \ ^)",
        )
    return prefix


def stream_key(prefix: str, mdt: str) -> str:
    """Key of the stream of `mdt`."""
    return f"{prefix}:{mdt}"


def heartbeat_key(prefix: str, mdt: str) -> str:
    """Key of the worker's heartbeat for `mdt`."""
    return f"{{{prefix}:{mdt}}}:heartbeat"


def maintenance_key(prefix: str, mdt: str) -> str:
    """Key of the lock that one maintenance run on `mdt` holds."""
    return f"{{{prefix}:{mdt}}}:maintenance"


def kept_key(stream: str) -> str:
    """Key of what a worker writes to find out whether all before it is kept."""
    return f"{{{stream}}}:kept"


def stream_pattern(prefix: str) -> str:
    """SCAN pattern that matches every stream under `prefix`."""
    return f"{prefix}:*"


def mdt_of(prefix: str, key: str) -> str:
    """The MDT whose stream `key` is."""
    return key.removeprefix(f"{prefix}:")


def data_of(fields: list[bytes] | None) -> bytes | None:
    """The value of the field `data` in an entry's [field, value, ...]; None without one."""
    if not fields:
        return None
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(DATA_FIELD)
