"""The copytools of an MDT: a line each of the file `agents` beside its actions file. Pure.

    uuid=80379a60-1f8a-743f-daf2-307cde793ec2 archive_id=1,2 requests=[current:3 ok:120 errors:0]

Printed by `mdt_hsm_agent_seq_show()` (Lustre 2.5 and later); `archive_id=ANY` for one that serves every archive.
"""

from __future__ import annotations

import re

import msgspec

from hsm_shipper.contract.kernel_line import unsigned

# All of them are ints of 32 bits; what JSON does not hold as an integer is no line of the kernel's.
_NUMBER = rb"\d{1,18}"
_LINE = re.compile(
    rb"uuid=(?P<uuid>\S+) archive_id=(?P<archive_ids>ANY|-?%(number)b(?:,-?%(number)b)*) "
    rb"requests=\[current:(?P<current>-?%(number)b) ok:(?P<ok>%(number)b) errors:(?P<errors>%(number)b)\]"
    % {b"number": _NUMBER}
)


class Copytool(msgspec.Struct, frozen=True, kw_only=True):
    """One copytool since it registered with the coordinator."""

    uuid: str
    archive_ids: list[int]
    """The archives that it serves; empty for any. The kernel prints them as ints, as in lines of actions."""
    current: int
    """Requests that it works on now. Below 0 where requests end that it had before it registered again."""
    ok: int
    """Requests that it ended well."""
    errors: int
    """Requests that it ended with an error."""


def parse_agents(listing: bytes) -> tuple[list[Copytool], int]:
    """The copytools of a listing, and how many of its lines are not understood."""
    copytools = []
    not_understood = 0
    for line in listing.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            not_understood += 1
            continue
        ids = match["archive_ids"]
        copytools.append(
            Copytool(
                uuid=match["uuid"].decode(errors="replace"),
                archive_ids=[] if ids == b"ANY" else [unsigned(int(archive_id)) for archive_id in ids.split(b",")],
                current=int(match["current"]),
                ok=int(match["ok"]),
                errors=int(match["errors"]),
            )
        )
    return copytools, not_understood
