"""Metadata servers that share MDTs, their workers and maintenance, and one Redis: a life that the steps act on."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import redis

from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.errors import HsmError, OutboxFull, StateCorrupt, StreamError, StreamMoved
from hsm_shipper.lustre.actions_file import ActionsFile
from hsm_shipper.maintenance.cycle import CycleResult, run_cycle
from hsm_shipper.state.damage import check_for_damage, set_aside
from hsm_shipper.state.database import tidy
from hsm_shipper.stream.stream import ActionStream
from hsm_shipper.worker.changes import ChangeWriter
from hsm_shipper.worker.poll_result import PollResult
from hsm_shipper.worker.poller import Poller
from hsm_shipper.worker.stream_replica import StreamReplica
from tests.faults.model.machine import Machine, Process
from tests.faults.model.redis_model import RedisModel, Stream, Wire, model_client
from tests.faults.model.referee import Reading, Referee, Wrong, digest_of, folded
from tests.faults.model.reference import Live, Place
from tests.faults.model.sizes import Sizes
from tests.simulator.debugfs import DebugfsActions, Listing
from tests.support.core import line as kernel_line

HOSTS = ("mds1", "mds2", "mds3")
POLLS_TO_SETTLE = 5
"""A damaged file, a stream that moved and a list that lost most of its lines take a poll each."""


class Mdt:
    """One MDT: its true list, who has it mounted, and what its listings look like."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = f"hsm:actions:{name}".encode()
        self.lines: dict[Place, bytes] = {}
        self.mounted_on: set[str] = set()
        self.hsm_control = "enabled"
        self.order: int | None = None
        """What its listings are shuffled by; None for listings sorted by place."""
        self.cookie = 0x6B000000
        self.referee = Referee(self.lines)

    def put(self, place: Place, fid: int, action: str, status: str) -> None:
        """A new record."""
        self.cookie += 1
        self.lines[place] = kernel_line(
            place[1], status, cat=place[0], fid=fid_of(fid), action=action, cookie=self.cookie, archive_id=1
        )

    def listing(self) -> list[bytes]:
        """Its lines, in the order of the file."""
        places = sorted(self.lines)
        if self.order is not None:
            random.Random(self.order).shuffle(places)
        return [self.lines[place] for place in places]


class Worker:
    """The worker of one MDT on one host."""

    def __init__(self, life: Life, host: str, mdt: Mdt) -> None:
        self._life = life
        self.host = host
        self.mdt = mdt
        self.state_path = life.folder / host / f"{mdt.name}.sqlite3"
        self.copy_path = self.state_path.with_suffix(".yesterday")
        self.state_path.parent.mkdir(exist_ok=True)
        self.actions = DebugfsActions(self._render)
        self.actions_file = ActionsFile(Path("actions"), self.actions.open, hold=True)
        self.next: Listing | None = None
        """What the next reading gives in place of the list."""
        self.next_again = False
        """Whether a second reading in the same poll gives that too."""
        self.readings: list[Reading] = []
        """What it has read in this poll, and in those before of which something may wait in its outbox or its copy."""
        self.promised: set[str] = set()
        """MD5s of lines that it has read and not missed: the stream has to say them, or has."""
        self.promises_nothing = False
        """Whether what waits is not to be said any more, until it has found out."""
        self.was_tidied = False
        """Whether SQLite's log may hold what is in the file already."""
        self.is_damaged = False
        """Whether its state file may hold what no poll has had to read yet: maintenance finds it."""
        self.may_be_set_aside = False
        """Whether somebody has had his hands in its state file: nothing else is a reason to set it aside."""
        self.has_mixed_log = False
        """Whether its state file may lie under a log of another day: where that loses its end, this shows."""
        self.earlier_readings: list[Reading] = []
        """All that it ever read and said: where the power fails, what waited is there again."""
        self.client, self.maintenance_client = life.client(), life.client()
        self.start()

    def start(self) -> None:
        """Begin a process on the state file that is there."""
        self.process = Process(f"worker of {self.mdt.name} on {self.host}")
        self.client.connection_pool.reset()
        self.stream = ActionStream(self.client, self.mdt.key.decode(), "the model")
        self.replica = StreamReplica(self.state_path, self.stream, self.host, self._life.sizes.bound)
        self.actions_file.close()
        self.actions_file = ActionsFile(Path("actions"), self.actions.open, hold=True)
        writer = ChangeWriter(self.mdt.name, self.host, self._life.include_raw)
        self.poller = Poller(self.actions_file, self.replica, writer, lambda: self.mdt.hsm_control)

    def poll(self) -> PollResult | None:
        """Poll once; None where the process was killed, and another one has begun."""
        result, epochs, readings = None, self._life.epochs, len(self.readings)
        with self._life.machine.running(self.process):
            result = self.poller.poll()
        self.next, self.next_again = None, False
        self.check_set_aside()
        if self.process.is_dead:
            self.start()
            # What it appended and did not commit its successor sees at another time: what waits then is not the same.
            self.promises_nothing = True
            return None
        if epochs == self._life.epochs and len(self.readings) > readings:
            self._promise(result)  # else it need not have noticed yet that something is lost, or it could not read
        if result is not None and result.error is None and not result.backlog and not self.copy_path.exists():
            self.earlier_readings += self.readings
            self.readings.clear()
        return result

    def _promise(self, result: PollResult | None) -> None:
        """What a poll has seen it has shipped, or it waits."""
        if result is None or self.is_damaged or not self.replica.is_filled:
            return
        if result.error is None:
            self.promises_nothing = False
        is_kept = result.error is None or (
            isinstance(result.error, StreamError) and not isinstance(result.error, StreamMoved)
        )
        reading = self.readings[-1]
        is_whole = reading.proves_absence and not (result.not_kept or result.lines_not_understood)
        if is_kept and is_whole and not self.promises_nothing:
            self.promised.update(map(digest_of, set(reading.lines).intersection(reading.true_lines)))

    def break_promises(self) -> None:
        """Its state file, or what the stream said, is lost or another one."""
        self.promised.clear()
        self.promises_nothing = True

    def kill(self, cut: float = 1.0) -> None:
        """Kill -9 between two polls, or a power failure that leaves the share `cut` of SQLite's log."""
        self._life.machine.kill(self.process, cut)
        self.start()

    def check_set_aside(self) -> None:
        """A state file that nobody has touched is sound."""
        broken = self.state_path.with_name(f"{self.state_path.name}.broken")
        if broken.exists():
            if not self.may_be_set_aside:
                raise Wrong(f"the state file of the {self.process.name} was set aside, and nobody had touched it")
            broken.unlink()

    def stop(self) -> None:
        """End in good order."""
        self.replica.close()
        self.was_tidied = False
        self.start()

    def _render(self) -> Listing:
        listing = self.next or Listing(as_content(self.mdt.listing()))
        if not self.next_again:
            self.next = None
        content = listing.content
        proves = listing.error_number is None and self.mdt.hsm_control not in ("init", "stopping")
        proves = proves and content[-1:] in (b"", b"\n")
        self.readings.append(Reading(content.split(b"\n"), self.mdt.lines.values(), proves_absence=proves))

        def gate() -> None:
            self._life.machine.gate("file")

        return Listing(content, listing.error_number, listing.at_end or gate, between=gate)


class Life:
    """Everything, from nothing to its end."""

    def __init__(
        self, folder: Path, machine: Machine, sizes: Sizes, *, mdts: int, tells_deleted: bool, include_raw: bool = True
    ) -> None:
        self.folder = folder
        self.include_raw = include_raw
        self.machine = machine
        self.sizes = sizes
        self.server = RedisModel(lambda: machine.now_s + self.server_ahead_s, tells_deleted=tells_deleted)
        self.server.on_added = self._added
        self.server_ahead_s = 0.0
        self.is_down = False
        self.remembered: dict[bytes, Stream] | None = None
        """What Redis held at some time."""
        self.mdts = [Mdt(f"elm-MDT{number:04x}") for number in range(mdts)]
        self._by_key = {mdt.key: mdt for mdt in self.mdts}
        self.workers = {(host, mdt.name): Worker(self, host, mdt) for host in HOSTS for mdt in self.mdts}
        for mdt in self.mdts:
            self.mount(mdt, {HOSTS[0]})
        self.epochs = 0
        """How often Redis, or somebody else, has changed what a stream said."""
        self.hidden_losses: set[str] = set()
        """MDTs whose stream lost entries without a trace that a poll could find: maintenance heals them."""
        self.busy: set[Worker] = set()
        """Those in the middle of a poll while something else happens."""

    def client(self, server: RedisModel | None = None) -> redis.Redis:
        """A client of a process, to which every fault on its way happens."""
        wire = Wire(server or self.server)

        def gate(point: str) -> None:
            if self.is_down and server is None:
                raise redis.ConnectionError("Error 111 connecting to the model. Connection refused.")
            self.machine.gate(point)

        wire.gate = gate
        return model_client(wire)

    def worker(self, mdt: Mdt, host: str | None = None) -> Worker:
        """The worker of `mdt` on `host`, without it where it is mounted."""
        return self.workers[host or min(mdt.mounted_on or {HOSTS[0]}), mdt.name]

    def mount(self, mdt: Mdt, hosts: set[str]) -> None:
        """Have the MDT on these hosts and no others; what it was mounted on before stays open."""
        mdt.mounted_on = set(hosts)
        for host in HOSTS:
            actions = self.workers[host, mdt.name].actions
            if host not in hosts:
                actions.unmount()
            elif actions.inode is None:
                actions.mount()

    def stream(self, mdt: Mdt) -> Stream | None:
        """The stream of an MDT as it is on the server."""
        return self.server.streams.get(mdt.key)

    def _last(self, mdt: Mdt) -> int:
        stream = self.stream(mdt)
        return 0 if stream is None else stream.last

    def begin_epochs(self, *, front_lost: bool = False) -> None:
        """What Redis holds now is what it holds."""
        self.epochs += 1
        for mdt in self.mdts:
            mdt.referee.begin_epoch(self.stream(mdt), front_lost=front_lost)
        for worker in self.workers.values():
            worker.break_promises()

    def command(self, *words: str | bytes) -> object:
        """A command by somebody else."""
        before, self.machine.current = self.machine.current, None
        try:
            return self.server.execute(*words)
        finally:
            self.machine.current = before

    def _added(self, key: bytes, entry: int, fields: list[bytes]) -> None:
        process = self.machine.current
        mdt = self._by_key[key]
        writer = next((worker for worker in self.workers.values() if worker.process is process), None)
        if process is not None and (writer is None or writer.mdt is not mdt):
            raise Wrong(f"{process.name} writes to the stream of {mdt.name}")
        for worker in self.workers.values():
            if worker.mdt is mdt and worker is not writer:
                worker.break_promises()  # what waits there is not what came next
        readings, host = ([], None) if writer is None else (writer.readings, writer.host)
        mdt.referee.added(entry, fields, readings, host)

    # -- maintenance

    def maintain(
        self, worker: Worker, *, threshold: int = 1000, stream: ActionStream | None = None
    ) -> CycleResult | HsmError | None:
        """A run on the state file of a worker, as `MaintenanceRun` does it; None where it was killed."""
        process = Process(f"maintenance of {worker.mdt.name} on {worker.host}")
        result: CycleResult | HsmError | None = None
        epochs, front = self.epochs, self._front(worker.mdt)
        with self.machine.running(process):
            worker.maintenance_client.connection_pool.reset()
            own = ActionStream(worker.maintenance_client, worker.mdt.key.decode(), "the model")
            try:
                result = self._cycle(worker, stream or own, threshold)
                worker.was_tidied = True
                tidy(worker.state_path)
            except HsmError as error:
                result = error
        worker.check_set_aside()
        if (
            self.epochs != epochs
        ):  # an end that somebody deleted meanwhile lets what it ended live again, if not for long
            self.begin_epochs(front_lost=True)
        self._note_trim(worker.mdt, front)
        for database in list(process.databases):
            raise Wrong(f"{process.name} leaves {database.path} open")
        return result

    def _front(self, mdt: Mdt) -> int | None:
        stream = self.stream(mdt)
        return stream.ids[0] if stream is not None and stream.ids else None

    def _note_trim(self, mdt: Mdt, front_before: int | None) -> None:
        """A front that moved below a deletion may hide another one: what waits is dropped then, and counted."""
        front, stream = self._front(mdt), self.stream(mdt)
        if stream is not None and front != front_before and stream.max_deleted > (front or 0):
            for worker in self.workers.values():
                if worker.mdt is mdt:
                    worker.break_promises()

    def _cycle(self, worker: Worker, stream: ActionStream, threshold: int) -> CycleResult:
        try:
            check_for_damage(worker.state_path)
            return run_cycle(
                worker.mdt.name,
                worker.state_path,
                stream,
                aggressive_trim_threshold=threshold,
                consumer_group_backlog_max=100_000,
                keep_going=lambda: self.machine.gate("keep going"),
            )
        except StateCorrupt as damage:
            raise set_aside(worker.state_path, damage) from damage

    # -- what must hold

    def settle(self, mdt: Mdt, *, at_once: bool) -> None:
        """Let the MDT be on one host, readable and in order, with a Redis that answers, and look at the stream.

        With `at_once` as soon as it is true, else after all the polls that it may take.
        """
        self.machine.fault = None
        self.is_down, self.server.refuses, self.server_ahead_s = False, None, 0.0
        if mdt.key in self.server.strings:
            self.command("DEL", mdt.key)
        mdt.hsm_control, mdt.order = "enabled", None
        self.mount(mdt, {min(mdt.mounted_on or {HOSTS[0]})})
        worker = self.worker(mdt)
        worker.next = None
        result: PollResult | None = None
        if mdt.name in self.hidden_losses or worker.is_damaged:
            self.hidden_losses.discard(mdt.name)
            worker.is_damaged = False
            worker.poll()
            self.maintain(worker)
        if worker.may_be_set_aside:
            worker.poll()
            worker.kill()  # its successor reads all of the file
            worker.poll()
            worker.may_be_set_aside = False
        for _ in range(POLLS_TO_SETTLE):
            result = worker.poll()
            while result is not None and _goes_on(result.error) and worker.replica.waiting.events:
                result = worker.poll()  # each appends some of what waits, and may find no room for all that is new
            if at_once and result is not None and result.error is None and mdt.referee.is_true():
                break
        if result is None or result.error is not None:
            raise Wrong(f"{mdt.name}: a quiet poll fails: {result and result.error}")
        self.check(mdt, worker)

    def check(self, mdt: Mdt, worker: Worker) -> None:
        """The stream says what the list does, the state file what the stream does, and another poll adds nothing."""
        if not mdt.referee.is_true():
            raise Wrong(f"{mdt.name}: {_difference(mdt.referee.digests(), mdt.referee.listed())}")
        self.check_remainders()
        self.check_promises(mdt)
        mdt.referee.has_noticed()
        before = self._last(mdt)
        worker.poll()
        if before != self._last(mdt):
            raise Wrong(f"{mdt.name}: a poll that sees no change appends something")
        self.check_rows(worker)

    def check_rows(self, worker: Worker) -> None:
        """The state file is what the stream says."""
        wrong = worker.mdt.referee.wrong_rows(_rows_in(worker.state_path))
        if wrong:
            raise Wrong(f"{worker.mdt.name}: the state file is not what the stream says: {wrong}")

    def check_promises(self, mdt: Mdt) -> None:
        """What was seen while Redis was away is said; what waits on another host has still time to be."""
        worker = self.worker(mdt)
        if worker.replica.waiting.events:
            raise Wrong(f"{mdt.name}: something waits for a Redis that is there")
        unsaid = worker.promised - mdt.referee.said
        if unsaid:
            raise Wrong(f"{mdt.name}: {len(unsaid)} states that were seen are in no stream")
        worker.promised.clear()

    def check_remainders(self) -> None:
        """What was trimmed away is not missed."""
        for mdt in self.mdts:
            if folded(self.stream(mdt)).live != mdt.referee.fold.live:
                raise Wrong(f"{mdt.name}: what is left of the stream says something else than all of it did")

    def check_maintenance(self, mdt: Mdt) -> None:
        """At a quiet point: nothing to heal, and after two cycles the stream is short."""
        worker = self.worker(mdt)
        for _ in range(2):
            result = self.maintain(worker)
            if not isinstance(result, CycleResult):
                raise Wrong(f"{mdt.name}: a quiet cycle fails: {result}")
            if result.orphans or result.missing or result.differing:
                raise Wrong(f"{mdt.name}: maintenance finds something to heal: {result}")
            worker.poll()
        self.maintain(worker)
        stream = self.stream(mdt)
        bound = 2 * len(mdt.lines) + self.sizes.slack_entries
        if stream is not None and not stream.groups and len(stream) > bound:
            raise Wrong(f"{mdt.name}: {len(stream)} entries are left, more than {bound}")
        worker.poll()
        worker.kill()  # what was left to be done would be done again
        self.check(mdt, worker)

    def close(self) -> None:
        """Close what is open."""
        for worker in self.workers.values():
            worker.replica.close()
            worker.actions_file.close()
            worker.client.close()
            worker.maintenance_client.close()


def fid_of(number: int) -> str:
    """The FID of one of a few files."""
    return f"0x200000401:0x{number:x}:0x0"


def _rows_in(path: Path) -> dict[Place, Live]:
    columns = "cat_idx, rec_idx, fid, action, status, cookie, hash, entry_id, first_seen, status_since"
    with closing(sqlite3.connect(path)) as database:
        found = database.execute(f"SELECT {columns} FROM actions").fetchall()
    return {
        (cat, rec): Live(fid, action, status, cookie, digest, pack_id(entry_id or "0-0"), *times)
        for cat, rec, fid, action, status, cookie, digest, entry_id, *times in found
    }


def _difference(said: dict[Place, str | None], listed: dict[Place, str | None]) -> str:
    extra, lacking = sorted(said.keys() - listed.keys()), sorted(listed.keys() - said.keys())
    other = sorted(place for place in said.keys() & listed.keys() if said[place] != listed[place])
    return f"the stream has {extra} that are gone, lacks {lacking}, and says something else of {other}"


def as_content(lines: Sequence[bytes]) -> bytes:
    """A listing of whole lines."""
    return b"".join(line + b"\n" for line in lines)


def _goes_on(error: HsmError | None) -> bool:
    """Whether what waits is appended in spite of it."""
    return error is None or isinstance(error, OutboxFull)
