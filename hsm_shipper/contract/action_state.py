"""A live action: what the fold of a stream, or a row of the state file, tells of one action."""

from __future__ import annotations

from sys import intern as _intern

import msgspec

from hsm_shipper.contract.kernel_line import unpack_place

UNKNOWN_ENTRY = b"0-0"  # no entry has this id
# No line has an MD5 of all zeros but with a chance of 2^-128.
NO_DIGEST = bytes(16)


class ActionState(msgspec.Struct, array_like=True, gc=False):
    """One live action. Times are seconds since the epoch, None where the stream does not tell.

    Some 400 bytes with its place in a dict: `mark` is what would be two objects in a naive one, and `entry` the very
    object that came from the server.
    """

    place: int
    fid: str
    action: str
    status: str
    mark: bytes
    first_seen: int | None
    status_since: int | None
    entry: bytes
    """The id of the stream entry that holds this state; `UNKNOWN_ENTRY` where that is not known."""
    archive_id: int | None = None
    """The archive that it is for; None where the entry has no `raw` to tell it, or nobody has noted it."""

    @classmethod
    def make(
        cls,
        place: int,
        fid: str,
        action: str,
        status: str,
        cookie: str | None,
        digest: bytes | None,
        first_seen: int | None,
        status_since: int | None,
        entry: bytes = UNKNOWN_ENTRY,
    ) -> ActionState:
        """An action with `digest`, the MD5 of the kernel's line (16 bytes), and the id of its stream entry.

        `cookie` and `digest` are None where the entry does not tell them.
        """
        return cls(
            place,
            fid,
            _intern(action),
            _intern(status),
            (digest or NO_DIGEST) + (b"" if cookie is None else cookie.encode()),
            first_seen,
            first_seen if status_since == first_seen else status_since,
            entry,
        )

    @property
    def digest(self) -> bytes | None:
        """MD5 of the kernel's line, 16 bytes; None where the entry has neither `raw` nor `hash`, or it was not kept."""
        digest = self.mark[:16]
        return None if digest == NO_DIGEST else digest

    @property
    def cookie(self) -> str | None:
        """The kernel's cookie, hex text; None where the entry does not tell it."""
        return self.mark[16:].decode() or None

    @property
    def entry_id(self) -> str:
        """The stream entry that holds this state."""
        return self.entry.decode()

    @property
    def action_key(self) -> str:
        """`fid:ACTION`."""
        return f"{self.fid}:{self.action}"

    @property
    def cat_idx(self) -> int:
        """Catalogue index of the record's place."""
        return unpack_place(self.place)[0]

    @property
    def rec_idx(self) -> int:
        """Record index of the record's place."""
        return unpack_place(self.place)[1]


def same_action(one: ActionState, other: ActionState) -> bool:
    """Whether both are one action: cookie, FID and action agree, a cookie that is not told agreeing with any."""
    cookies_agree = one.cookie is None or other.cookie is None or one.cookie == other.cookie
    return cookies_agree and one.fid == other.fid and one.action == other.action


def same_state(one: ActionState, other: ActionState) -> bool:
    """Whether both are one action in one state: the same line, or the same status where one does not tell its line."""
    if one.digest is not None and other.digest is not None:
        if one.digest != other.digest:
            return False
    elif one.status != other.status:
        return False
    return same_action(one, other)
