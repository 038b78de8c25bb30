"""Audits streams: replays them, and holds them against what this server knows better.

The worker goes on meanwhile, and nobody waits for anybody. So the state file, which says how far it has followed the
stream, is held against the stream up to there and no further; and what differs from the actions file is only suspected
until the worker has had its polls to ship it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.contract.redis_keys import heartbeat_key, stream_key
from hsm_shipper.contract.stream_ids import EMPTY_ID, pack_id
from hsm_shipper.errors import ActionsError, HsmError, StateError, StreamError, StreamRefused, StreamUnavailable
from hsm_shipper.lustre.actions_file import ActionsFile
from hsm_shipper.lustre.coordinator import read_hsm_control
from hsm_shipper.lustre.mdts import Present
from hsm_shipper.state.database import opened
from hsm_shipper.state.newer import migrations_of
from hsm_shipper.state.poll_status import PollStatus, read_poll_status, state_file
from hsm_shipper.state.rows import read_actions, read_filled_position
from hsm_shipper.stream.connection import Clients, address
from hsm_shipper.stream.replay import Replay
from hsm_shipper.stream.stream import ActionStream
from hsm_tools.auditing.audit import (
    Comparison,
    Counts,
    Differences,
    Listing,
    MdtReport,
    Repetitions,
    compare,
    confirmed,
)
from hsm_tools.command.progress_bar import ProgressBar
from hsm_tools.live_state.health import read_heartbeat, worker_health

_BUSY_TIMEOUT_S = 5.0
# One poll may have begun before the file was read, the next one ships what it held then, and a list that lost most of
# its actions is believed at the one after.
_POLLS_TO_SETTLE = 3
_SHORTEST_PATIENCE_S = 10.0  # a short interval is kept to only as far as the server is not busy
_LOOK_INTERVAL_S = 0.1
_EXAMPLE_BYTES = 300
_NOT_READY = frozenset({"init", "stopping"})


class CannotTell(HsmError):
    """A comparison that would prove nothing."""


class Auditor:
    """Audits MDTs one after the other; `present` is what was found on this server."""

    def __init__(self, config: Config, clients: Clients, present: Present, progress: ProgressBar) -> None:
        self._config = config
        self._clients = clients
        self._present = present
        self._progress = progress

    def audit(self, mdt: str) -> MdtReport:
        """Audit the stream of `mdt`. Raises `StreamUnavailable`; whatever else goes wrong is in the report."""
        key = stream_key(self._config.redis_stream_prefix, mdt)
        client = self._clients.of(key)
        stream = ActionStream(client, key, address(self._config))
        counts: Counts | None = None
        state = listing = None
        error = None
        beat, beat_trouble = self._heartbeat(client, stream, mdt)
        try:
            self._progress.begin(mdt, stream.length())
            fold = StreamFold(client, stream, self._progress)
            state = self._against_state_file(fold, mdt)
            fold.to_head()
            listing = self._against_actions_file(fold, mdt)
            counts = fold.counts()
        except StreamUnavailable:
            raise
        except StreamError as trouble:
            error = str(trouble)
        finally:
            self._progress.clear()
        worker = worker_health(beat, time.time(), beat_trouble)
        return MdtReport(mdt, stream.key, counts, beat, worker, state, listing, error)

    def _heartbeat(self, client: redis.Redis, stream: ActionStream, mdt: str) -> tuple[Heartbeat | None, str | None]:
        """The heartbeat, or why it cannot be read: who may read streams may not always read what is beside them."""
        try:
            with stream.translated("read the heartbeat beside"):
                data = cast("bytes | None", client.get(heartbeat_key(self._config.redis_stream_prefix, mdt)))
        except StreamRefused as error:
            return None, error.message
        return read_heartbeat(data)

    def _against_state_file(self, fold: StreamFold, mdt: str) -> Comparison | None:
        path = state_file(self._config.state_path, mdt)
        if not _is_there(path):
            return None
        has_left = mdt not in self._present.mdts and not self._present.unreadable
        return _comparison(
            path, lambda: Comparison(str(path), _differences_from_state_file(fold, path, has_left=has_left))
        )

    def _against_actions_file(self, fold: StreamFold, mdt: str) -> Comparison | None:
        path = self._present.mdts.get(mdt)
        if path is None:
            return None

        def compared() -> Comparison:
            polls = PollWatch(state_file(self._config.state_path, mdt), self._config.poll_interval_s, self._progress)
            return _compared_with_actions_file(fold, path, polls)

        return _comparison(path, compared)


class StreamFold:
    """One stream, folded as far as it is asked for."""

    def __init__(self, client: redis.Redis, stream: ActionStream, progress: ProgressBar) -> None:
        self._client = client
        self._stream = stream
        self._progress = progress
        self._replay = self._beginning()

    @property
    def live(self) -> ActionFold:
        """The live actions as of the last `to`."""
        return self._replay.live

    def to(self, until: str) -> None:
        """Fold up to the id `until`; anew if that lies behind what was folded."""
        if pack_id(until) < pack_id(self._replay.until):
            self._replay = self._beginning()
        self._replay.go_on(until)

    def to_head(self) -> None:
        """Fold all that there is now."""
        self.to(self.head())

    def head(self) -> str:
        """The id last given to an entry; `0-0` without a stream."""
        with self._stream.translated("look at"):
            if not self._client.exists(self._stream.key):
                return EMPTY_ID
            last_id: bytes = self._client.xinfo_stream(self._stream.key)["last-generated-id"]
        return last_id.decode()

    def counts(self) -> Counts:
        """What the entries folded so far are."""
        replay, repetitions = self._replay, self._repetitions
        return Counts(
            entries=replay.entries,
            live=len(self.live),
            duplicates=repetitions.duplicates,
            purged_without_new=repetitions.purged_without_new,
            malformed=replay.malformed,
            malformed_ids=tuple(replay.malformed_ids),
        )

    def _beginning(self) -> Replay:
        return Replay(self._stream, lambda _: self._progress(self._replay.entries), observer=self._observed)

    def _observed(self) -> Repetitions:
        self._repetitions = Repetitions()
        return self._repetitions


class PollWatch:
    """Watches the worker's polls by what it leaves in the state file; made before the first reading."""

    def __init__(self, path: Path, poll_interval_s: float, progress: ProgressBar) -> None:
        self._path = path
        self._progress = progress
        self._last = self._begin = self._status()
        # A poll that takes long is followed by a rest.
        poll_s = max(poll_interval_s, 0.0 if self._last is None else 2 * self._last.last_poll_duration_s)
        self._limit_s = max(_SHORTEST_PATIENCE_S, (_POLLS_TO_SETTLE + 1) * poll_s)
        self._deadline_s = time.monotonic() + self._limit_s

    def have_settled(self) -> bool:
        """Whether the worker has had every chance to ship what was in the file when this was made.

        It has not while something waits: what an outage left is appended before anything new, over many polls perhaps.
        """
        if self._begin is None or self._last is None or self._last.error is not None or self._last.backlog:
            return False
        return self._last.polls >= self._begin.polls + _POLLS_TO_SETTLE

    def wait(self) -> None:
        """Wait for the next poll to end. Raises `CannotTell` where none comes."""
        before = self._last
        if before is None or time.time() - before.last_poll_at > self._limit_s:
            raise CannotTell(f"differs from the actions file, and no worker polls ({self._path})", "is it running?")
        while self._last is None or self._last.polls == before.polls:
            if time.monotonic() >= self._deadline_s:
                waits = f"; {self._last.backlog:,} changes wait for Redis" if self._last and self._last.backlog else ""
                raise CannotTell(
                    f"differs from the actions file, and in {self._limit_s:.1f} s the worker has not polled well "
                    f"{_POLLS_TO_SETTLE} times{waits}",
                    "look at `hsm-action-shipper status`",
                )
            self._progress.say("the worker may still be on its way: waiting for its next poll")
            time.sleep(_LOOK_INTERVAL_S)
            self._last = self._status()

    def _status(self) -> PollStatus | None:
        try:
            return read_poll_status(self._path)
        except StateError:
            return None  # as without one: the state file is a reference of its own, and told there


def _comparison(path: Path, compared: Callable[[], Comparison]) -> Comparison:
    try:
        return compared()
    except (CannotTell, StateError, ActionsError) as reason:
        return Comparison(str(path), {}, str(reason))


def _differences_from_state_file(fold: StreamFold, path: Path, *, has_left: bool) -> Differences:
    """Where the stream, up to where the state file has followed it, is not what the state file says.

    A trim may take an entry away whose action was refreshed behind that point: what differs is looked at again.
    """
    found = _look_at_state_file(fold, path, has_left=has_left)
    return confirmed(found, _look_at_state_file(fold, path, has_left=has_left)) if found else found


def _look_at_state_file(fold: StreamFold, path: Path, *, has_left: bool) -> Differences:
    with _state_at_one_moment(path) as (position, _):
        pass
    fold.to(position)  # most of it, while no transaction holds up the worker's checkpoints
    with _state_at_one_moment(path) as (position, actions):
        fold.to(position)
        found = compare(fold.live, actions)
    if has_left and fold.head() != position:
        raise CannotTell("the MDT has left this server and its stream goes on", "audit it where the MDT is")
    return found


@contextlib.contextmanager
def _state_at_one_moment(path: Path) -> Iterator[tuple[str, Iterator[ActionState]]]:
    """Where the state file has followed the stream to, and its actions, as of one moment."""
    with opened(path, "ro", "read", _BUSY_TIMEOUT_S) as connection:
        migrations_of(connection, path)  # raises for a file of a newer release
        connection.execute("BEGIN")
        yield read_filled_position(connection, path).last_id, read_actions(connection)


def _compared_with_actions_file(fold: StreamFold, path: Path, polls: PollWatch) -> Comparison:
    found, listing = _look_at_actions_file(fold, path)
    while found and not polls.have_settled():
        polls.wait()
        found_now, listing = _look_at_actions_file(fold, path)
        found = confirmed(found, found_now)
    return Comparison(str(path), found, not_compared=listing.not_compared, doubt=_doubt(listing, path))


def _doubt(listing: Listing, path: Path) -> str | None:
    """What is to be said of the lines that could not be compared; None where all of them were."""
    if not listing.not_compared:
        return None
    count = f"{listing.not_compared:,} of {listing.lines:,} lines of {path} could not be compared"
    if listing.example is None:
        return f"{count}: they say of a place what another line says otherwise"
    example = listing.example[:_EXAMPLE_BYTES].decode(errors="replace")
    return f"{count}, for they are not understood, the first: {example}"


def _look_at_actions_file(fold: StreamFold, path: Path) -> tuple[Differences, Listing]:
    """Fold first, read then: so what the file has held since the look before was there for every poll in between."""
    fold.to_head()
    _check_ready(path)
    reading = ActionsFile(path).read()
    listing = Listing(reading)
    found = compare(fold.live, listing, listing.places_not_understood, listing.repeat)
    if reading.fault is not None:
        raise ActionsError(f"incomplete reading of {path}: {reading.fault}", "try again")
    if listing.is_mostly_not_understood:
        raise CannotTell(f"{listing.not_understood} of {listing.lines} lines of {path} are not understood")
    _check_ready(path)
    return found, listing


def _check_ready(path: Path) -> None:
    state = read_hsm_control(path)
    if state in _NOT_READY:
        raise CannotTell(f"the coordinator is in state {state!r}: nothing is purged by {path} now", "try again later")


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # it may be: opening it says why it cannot be read
    return True
