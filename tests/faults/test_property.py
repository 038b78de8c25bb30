"""Random lives of an MDT with random faults: the stream ends up true, and never says what is not so."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hsm_shipper.contract.event import PURGED
from hsm_shipper.contract.kernel_line import parse_line
from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.errors import StateCorrupt, StateError, StreamBehind, StreamMoved
from hsm_shipper.maintenance.cycle import run_cycle
from hsm_shipper.maintenance.reconcile import StateFileHealer
from hsm_shipper.state.damage import check_for_damage, set_aside
from hsm_shipper.stream.stream import ActionStream
from tests.faults.judge import Judge
from tests.faults.world import KEY, MDT, World
from tests.simulator.debugfs import Listing
from tests.support.core import known_rows, rows
from tests.support.damage import IMPOSSIBLE, Damage
from tests.support.servers import RedisServer
from tests.support.truth import Place, entries_of

_PLACES = st.tuples(st.integers(1, 2), st.integers(1, 12))
_ACTIONS = st.sampled_from(["ARCHIVE", "RESTORE", "REMOVE", "CANCEL"])
_STATUSES = st.sampled_from(["WAITING", "STARTED", "SUCCEED", "FAILED", "CANCELED", "HALF DONE".replace(" ", "_")])
_FIDS = st.integers(1, 4)  # few files, so that one often has several actions
_APPEND_FAULTS = st.sampled_from(["unreachable", "reply lost", "killed"])
_BEHIND_DB = 62
_SHARES = st.floats(0, 1)
_READ_ERRORS = st.sampled_from([errno.ENOENT, errno.EIO, errno.ENOMEM, errno.EBADR])


def _line(place: Place, fid: int, cookie: int, action: str, status: str) -> bytes:
    name = f"0x200000401:0x{fid:x}:0x0"
    return (
        f"lrh=[type=10680000 len=136 idx={place[0]}/{place[1]}] fid=[{name}] dfid=[{name}] "
        f"compound/cookie=0x0/0x{cookie:x} action={action} archive#=1 flags=0x0 "
        f"extent=0x0-0xffffffffffffffff gid=0x0 datalen=0 status={status} data=[]"
    ).encode()


class Life(RuleBasedStateMachine):
    """Each rule that polls has the new entries judged against the listing as it is then."""

    server: ClassVar[RedisServer]

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.client = self.server.client(63)
        self.client.flushdb()
        self.world = World(self.client, Path(self.folder.name))
        self.cookie = 0x6B000000
        self.dump: bytes | None = None
        self.judge = Judge(self.client, self.world)

    # -- the life of an MDT

    @rule(place=_PLACES, fid=_FIDS, action=_ACTIONS, status=_STATUSES)
    def submit(self, place: Place, fid: int, action: str, status: str) -> None:
        """A new record; in a place that is taken it is the place's next one."""
        self.cookie += 1
        self._set(place, _line(place, fid, self.cookie, action, status))

    @rule(data=st.data(), status=_STATUSES)
    @precondition(lambda self: self.world.lines)
    def change_status(self, data: st.DataObject, status: str) -> None:
        place = data.draw(st.sampled_from(sorted(self.world.lines)))
        line = self.world.lines[place]
        old = line.split(b" status=")[1].split(b" ")[0]
        self._set(place, line.replace(b" status=" + old, b" status=" + status.encode()))

    @rule(data=st.data())
    @precondition(lambda self: self.world.lines)
    def remove(self, data: st.DataObject) -> None:
        for place in data.draw(st.sets(st.sampled_from(sorted(self.world.lines)), min_size=1)):
            del self.world.lines[place]

    @rule(data=st.data())
    @precondition(lambda self: len(self.world.lines) > 1)
    def swap_places(self, data: st.DataObject) -> None:
        """Two records that changed places, as in a recreated llog: both get new cookies, the files stay."""
        one, two = data.draw(st.permutations(sorted(self.world.lines)))[:2]
        records = []
        for place in (one, two):
            record = parse_line(self.world.lines[place])
            assert record is not None
            records.append(record)
        for place, record in ((one, records[1]), (two, records[0])):
            fid = int(record.fid.split(":")[1], 16)
            self._set(place, _line(place, fid, int(record.cookie, 16), record.action, record.status))

    # -- polls, good and bad

    @rule()
    def poll(self) -> None:
        self.world.server.poll()
        self.judge.judge()

    @rule(error=_READ_ERRORS, share=_SHARES, torn=st.booleans(), polls=st.integers(1, 2), readings=st.integers(1, 2))
    def poll_with_read_error(self, error: int, share: float, torn: bool, polls: int, readings: int) -> None:
        """On a descriptor that was held the list is read again in the same poll, and that may fail as well."""
        for _ in range(polls):
            broken = Listing(self._beginning(share, torn=torn), error)
            self._poll_listings(*[broken] * readings)

    @rule(torn_bytes=st.integers(1, 60))
    @precondition(lambda self: self.world.lines)
    def poll_with_torn_end(self, torn_bytes: int) -> None:
        self._poll_listings(Listing(self.world.listing()[:-torn_bytes]))

    @rule(share=st.floats(0, 0.5, exclude_max=True))
    @precondition(lambda self: self._is_settled())
    def poll_a_list_cut_short(self, share: float) -> None:
        """A short list that ends like a good one is not believed, and the next good reading says so."""
        self._poll_beginning(share)
        self.poll()

    @rule(share=st.floats(0, 1, exclude_max=True), order=st.integers(0, 99))
    @precondition(lambda self: self._is_settled())
    def poll_a_queue_cut_short(self, share: float, order: int) -> None:
        """The same of a listing that is not sorted, as a coordinator outside the kernel may print it."""
        self.world.order = order
        self.poll()
        if self.world.places() != sorted(self.world.lines):
            self._poll_beginning(share)
            self.poll()
        self.world.order = None

    def _poll_beginning(self, share: float) -> None:
        self._poll_listings(Listing(self._beginning(share)))

    def _beginning(self, share: float, *, torn: bool = False) -> bytes:
        """The beginning of the listing, to the end of a line unless it is torn."""
        if torn:
            listing = self.world.listing()
            return listing[: int(share * len(listing))]
        places = self.world.places()
        return b"".join(self.world.lines[place] + b"\n" for place in places[: int(share * len(places))])

    def _poll_listings(self, *listings: Listing) -> None:
        server = self.world.server
        server.next_listings.extend(listings)
        server.poll()
        server.next_listings.clear()
        self.judge.judge()

    @rule()
    def poll_while_stopping(self) -> None:
        self.world.hsm_control = "stopping"
        before = self.judge.verdict.events[PURGED]
        waited = self.world.server.replica.waiting.events > 0
        self.world.server.poll()
        self.world.hsm_control = "enabled"
        self.judge.judge(may_purge_missing=waited)
        assert self.judge.verdict.events[PURGED] >= before

    @rule(fault=_APPEND_FAULTS, after=st.integers(0, 1))
    def poll_with_append_fault(self, fault: str, after: int) -> None:
        self.world.server.stream.arm(fault, after)
        self.world.server.poll()
        self.world.server.stream.fault = None
        self.judge.judge()

    # -- hosts come and go

    @rule()
    def kill_process(self) -> None:
        self.world.server.kill()

    @rule()
    def fail_over(self) -> None:
        self.world.fail_over()

    @rule()
    def fail_over_forgetting(self) -> None:
        """As discovery does it: the host that loses the MDT removes its state."""
        self._lose_state()
        self.world.fail_over()

    @rule()
    def remount(self) -> None:
        """Between two polls: what is held is dead, and the path names another file."""
        self.world.remount()

    @rule(share=_SHARES, torn=st.booleans(), is_back=st.booleans())
    def remount_while_reading(self, share: float, torn: bool, is_back: bool) -> None:
        """Behind a part of the list; `is_back` where it is mounted again before the poll opens it anew."""
        actions = self.world.server.actions
        at_end = self.world.remount if is_back else actions.unmount
        self._poll_listings(Listing(self._beginning(share, torn=torn), errno.EIO, at_end=at_end))
        if not is_back:
            actions.mount()

    @rule()
    def look_for_the_file(self) -> None:
        """As the worker does once a second between its polls."""
        for server in self.world.servers.values():
            server.actions_file.close_if_gone()
        assert not self.world.other.actions.open_files, "it holds the module of a server that the MDT has left"

    @rule()
    def fail_over_while_reading(self) -> None:
        """The old host has read a list, and ships it after the new one has already polled."""
        loser, listing = self.world.server, self.world.listing()

        def meanwhile() -> None:
            self.world.fail_over()
            self.world.server.poll()

        loser.next_listings.append(Listing(listing, at_end=meanwhile))
        loser.poll()
        self.judge.judge()

    # -- state files

    @rule(how=st.sampled_from(["deleted", "truncated", "garbage"]), restarted=st.booleans())
    def lose_state(self, how: str, restarted: bool) -> None:
        if restarted:
            self._lose_state(how)
        elif how == "deleted":
            self.world.server.state_path.unlink(missing_ok=True)

    def _lose_state(self, how: str = "deleted") -> None:
        server = self.world.server
        server.replica.close()
        path = server.state_path
        if path.exists():
            content = path.read_bytes()
            path.unlink()
            if how != "deleted":
                path.write_bytes(content[: len(content) // 2] if how == "truncated" else b"\xa5" * len(content))
        server.start()

    @rule(where=st.sampled_from(sorted(IMPOSSIBLE)), data=st.data(), row=st.integers(0, 99), restarted=st.booleans())
    def damage_state(self, where: tuple[str, str], data: st.DataObject, row: int, restarted: bool) -> None:
        """A cell that holds what no worker wrote, under the worker or while there is none."""
        server = self.world.server
        if restarted:
            server.kill()
        damage = Damage(*where, data.draw(st.sampled_from(IMPOSSIBLE[where])), row)
        if damage.is_possible(server.state_path):
            damage.do(server.state_path)

    # -- Redis loses what it had acknowledged; what it says after that is judged afresh

    @rule()
    def flush(self) -> None:
        self.client.flushdb()
        self.judge.begin_epoch()

    @rule()
    def remember_stream(self) -> None:
        self.dump = self.client.dump(KEY)

    @rule()
    @precondition(lambda self: self.dump is not None)
    def roll_back(self) -> None:
        assert self.dump is not None
        self.client.restore(KEY, 0, self.dump, replace=True)
        self.judge.begin_epoch()

    @rule()
    def delete_newest_entry(self) -> None:
        entries = entries_of(self.client, KEY)
        if entries:
            self.client.xdel(KEY, entries[-1][0])
            self.judge.begin_epoch()

    @rule(fields=st.sampled_from([("data", "no JSON"), ("data", "{}"), ("other", "field"), ("data", "\x00")]))
    def append_malformed(self, fields: tuple[str, str]) -> None:
        self.client.xadd(KEY, {fields[0]: fields[1]})

    @rule(data=st.data())
    def delete_an_entry(self, data: st.DataObject) -> None:
        """Somewhere in the middle, which leaves the end as it was."""
        entries = entries_of(self.client, KEY)
        if entries:
            self.client.xdel(KEY, data.draw(st.sampled_from(entries))[0])
            self.judge.begin_epoch()

    @rule(data=st.data())
    def trim_by_another_hand(self, data: st.DataObject) -> None:
        """Whatever live actions need of it."""
        left = data.draw(st.integers(0, self.client.xlen(KEY)))
        self.client.xtrim(KEY, maxlen=left, approximate=False)
        self.judge.begin_epoch()

    # -- maintenance

    @rule(threshold=st.sampled_from([1, 1000]))
    def maintain(self, threshold: int) -> None:
        """Whatever it trims, the fold of the stream stays what it was."""
        before = self.world.verdict().live.by_place
        self._maintain(threshold)
        after = self.world.verdict().live.by_place
        assert {place: action.mark for place, action in before.items()} == {
            place: action.mark for place, action in after.items()
        }

    def _maintain(self, threshold: int) -> None:
        try:
            self._run_cycle(self.world.server.stream, threshold)
        except (StateError, StreamMoved):  # no state file yet, or one that the worker has to rebuild first
            return
        self.judge.begin_epoch()

    @rule()
    @precondition(lambda self: self._position() is not None)
    def maintain_at_a_server_that_is_behind(self) -> None:
        """An old primary that came back, or one that knows of nothing: no belief changes."""
        behind = self.server.client(_BEHIND_DB)
        behind.flushdb()
        if self.dump is not None:
            behind.restore(KEY, 0, self.dump)
        stream = ActionStream(behind, KEY, "the server that is behind")
        position = self._position()
        assert position is not None
        if pack_id(stream.head().last_id) < pack_id(position):
            state_path = self.world.server.state_path
            try:
                before = known_rows(state_path)
            except StateError:  # it was damaged: maintenance has something else to do with it
                return
            with pytest.raises(StreamBehind):
                self._run_cycle(stream)
            assert (self._position(), known_rows(state_path)) == (position, before)

    def _check_state(self) -> None:
        """As maintenance does before it goes on: what no poll has had to read may be damaged still."""
        path = self.world.server.state_path
        try:
            check_for_damage(path)
        except StateCorrupt as damage:
            set_aside(path, damage)
            self._settle()

    # -- what must hold

    @invariant()
    def nothing_false(self) -> None:
        assert self.judge.verdict.complaints == []

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self._settle()
        self._check_state()
        try:
            assert self.judge.verdict.complaints == []
            assert self.world.stream_is_true()
            entries = self.client.xlen(KEY)
            result = self.world.server.poll()
            assert result.error is None
            assert self.client.xlen(KEY) == entries, "a poll that sees no change appends nothing"
            assert known_rows(self.world.server.state_path) == rows(self.world.verdict().live)
        finally:
            self.world.close()
            self.client.close()
            self.folder.cleanup()

    # -- helpers

    def _set(self, place: Place, line: bytes) -> None:
        self.world.lines[place] = line
        self.judge.ever.add(line)

    def _settle(self) -> None:
        for _ in range(3):  # a list that lost most of its actions is believed at its second reading
            self.world.server.poll()
            self.judge.judge()

    def _run_cycle(self, stream: ActionStream, threshold: int = 1000) -> None:
        run_cycle(
            MDT,
            self.world.server.state_path,
            stream,
            aggressive_trim_threshold=threshold,
            consumer_group_backlog_max=1000,
            keep_going=lambda: None,
        )

    def _position(self) -> str | None:
        """Where the state file stands; None where it cannot tell."""
        try:
            with contextlib.closing(StateFileHealer(self.world.server.state_path)) as state:
                return state.position().last_id
        except StateError:
            return None

    def _is_settled(self) -> bool:
        return (
            bool(self.world.lines) and self.world.stream_is_true() and not self.world.server.replica.unconfirmed_absent
        )


@pytest.mark.timeout(3600)
def test_any_life_ends_in_a_true_stream(redis_server: RedisServer) -> None:
    Life.server = redis_server
    examples = int(os.environ.get("HSM_TEST_EXAMPLES", "100"))
    run_state_machine_as_test(
        Life,
        settings=settings(max_examples=examples, stateful_step_count=40, suppress_health_check=list(HealthCheck)),
    )
