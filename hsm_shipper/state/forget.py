"""Forgetting an MDT that has left this server: its state file goes, its stream is not touched.

Its actions live on, on disk and in the stream, and the server it went to continues from there; not one event is
written here. The lock files stay: unlinking one would let two processes hold "the" lock.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path

from hsm_shipper.contract.redis_keys import is_mdt_name
from hsm_shipper.errors import AlreadyRunning, StateError, StateUnwritable
from hsm_shipper.state.locks import FileLock, worker_lock_path
from hsm_shipper.state.outbox_rows import waiting_in
from hsm_shipper.state.poll_status import state_file, state_files

_log = logging.getLogger(__name__)


def maintenance_lock_path(state_dir: Path, mdt: str) -> Path:
    """The lock of whoever maintains the state file of `mdt` beside its worker."""
    return state_dir / f"{mdt}.maintenance.lock"


def stored_mdts(state_dir: Path) -> frozenset[str]:
    """The MDTs that have a state file below `state_dir`; none where that cannot be seen."""
    try:
        return frozenset(filter(is_mdt_name, state_files(state_dir)))
    except StateError:
        return frozenset()


def forget(state_dir: Path, mdt: str) -> bool:
    """Remove the state of `mdt`; False, and nothing done, while its worker or maintenance still runs.

    Raises `StateUnwritable` if the files cannot be removed.
    """
    database = state_file(state_dir, mdt)
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(worker_lock_path(state_dir, mdt), f"the worker of {mdt}"))
            held.enter_context(FileLock(maintenance_lock_path(state_dir, mdt), f"the maintenance of {mdt}"))
        except AlreadyRunning:
            return False
        # What came and went here is told by nobody: the server that the MDT went to tells what its list holds.
        events = waiting_in(database)
        if events != 0:
            count = "some, or no," if events is None else f"{events:,}"
            _log.warning("%s events of %s that waited for Redis are lost: the MDT has left this server", count, mdt)
        # The log first: a database without its log is an older state, a log without its database would be replayed
        # into the next one. The database last: as long as it is there, this is tried again.
        for path in (Path(f"{database}-wal"), Path(f"{database}-shm"), database):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StateUnwritable(f"cannot remove state file {path}: {error.strerror}") from None
    return True
