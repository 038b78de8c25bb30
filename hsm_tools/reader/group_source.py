"""A consumer group over all streams of a prefix: who is given what, once, and again where it was not acknowledged.

What the server keeps of a group (how far it got, what is pending with whom) rolls back and vanishes together with its
stream, so there are no positions to compare here. What remains: streams come, go, and lose their groups; a reply that
is lost on its way leaves entries pending that nobody has seen; a consumer that died leaves entries pending too.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from typing import Any

import redis

from hsm_shipper.contract.acl_commands import GROUP_COMMANDS
from hsm_shipper.stream.redis_errors import error_code
from hsm_tools.reader.finding import StreamFinder, type_found
from hsm_tools.reader.positions import BEGINNING, GroupProgress, StreamInfo, id_parts
from hsm_tools.reader.starts import Start
from hsm_tools.reader.steps import Command, Pause, Pipeline, Steps, pages, pairs
from hsm_tools.reader.streams import IDLE_LOOK_INTERVAL_S, Page

# How often what dead consumers hold is looked for, at most, and as a part of the time after which they are dead.
_RECLAIM_INTERVAL_MIN_S = 1.0
_RECLAIM_INTERVAL_PART = 0.25
# Far longer than it takes to create a group on all streams of a cluster, one by one.
SETTLING_S = 1.0
_LOOK_AGAIN = frozenset({"NOGROUP", "WRONGTYPE", "UNBLOCKED"})
# To XGROUP CREATE: somebody else has made the group; there is no such stream; there is something else.
_NOT_CREATED = frozenset({"BUSYGROUP", "ERR", "WRONGTYPE"})

logger = logging.getLogger("hsm_tools.consumer")


class GroupSource:
    """A source of entries for one consumer of one group; see `consumer.ConsumerGroup`."""

    commands = GROUP_COMMANDS
    writes = True
    caught_up = True

    def __init__(
        self, finder: StreamFinder, start: Start, group: str, consumer: str,
        reclaim_after_s: float, page_entries: int, longest_block_s: float, settling_s: float = 0.0,
    ) -> None:  # fmt: skip
        self.position: dict[bytes, bytes] = {}
        self.position_before: dict[bytes, bytes] = {}
        self.reclaimed = 0
        """How many entries were taken over, from others or from ourselves."""
        self._finder = finder
        self._start = start
        self._group = group
        self._consumer = consumer
        self._reclaim_after_s = reclaim_after_s
        self._page_entries = page_entries
        self._longest_block_s = longest_block_s
        self._settling_s = settling_s
        self._established = False  # whether the group has begun: a stream without it was born since
        self._to_begin: frozenset[bytes] = frozenset()  # the streams on which we have begun to make it
        self._given: dict[bytes, bytes] = {}  # the last id that was given to us, by stream
        self._pending: dict[bytes, bytes] = {}  # the id after which our pending entries are to be read, by stream
        self._progress: dict[bytes, GroupProgress] = {}  # of the group, by stream
        self._claims: dict[bytes, bytes] = {}  # where the search for abandoned entries goes on, by stream
        self._acks: dict[bytes, list[bytes]] = {}  # not sent yet
        self._look_due_s = self._claim_due_s = -math.inf
        self._server_is_new = True

    def reconnected(self) -> None:
        """A reply may have been lost, and the server may be another."""
        self._server_is_new = True
        self._finder.start_over()

    def passed_over(self, key: bytes, entry_id: bytes) -> None:
        """What nobody is given is acknowledged: pending, it would keep the stream from a trim."""
        self.add_acks([(key, entry_id)])

    def add_acks(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Have entries acknowledged, by `send_acks` or before the next reading."""
        for key, entry_id in entries:
            self._acks.setdefault(key, []).append(entry_id)

    @property
    def unsent_acks(self) -> int:
        """How many acknowledgements the server was not told of yet."""
        return sum(map(len, self._acks.values()))

    def send_acks(self) -> Steps[None]:
        """Tell the server what was handled; what it could not be told, the next call tells it."""
        if not self._acks:
            return
        acks, self._acks = self._acks, {}
        try:
            replies = yield Pipeline([("XACK", key, self._group, *ids) for key, ids in acks.items()])
            for reply in replies:
                if isinstance(reply, redis.RedisError) and error_code(reply) != "WRONGTYPE":
                    raise reply
        except BaseException:
            self.add_acks((key, entry_id) for key, ids in acks.items() for entry_id in ids)
            raise

    def deliveries(self, key: bytes, entry_id: bytes) -> Steps[int]:
        """How often an entry was given to a consumer; 0 if it is not pending."""
        try:
            reply = yield Command(("XPENDING", key, self._group, entry_id, entry_id, 1))
        except redis.ResponseError as error:
            if error_code(error) not in _LOOK_AGAIN:
                raise
            return 0  # the stream is gone, or the group, and with it what was pending
        return int(reply[0][3]) if reply else 0

    def read(self, limit_s: float) -> Steps[list[Page]]:
        """First what is pending with us, then what others abandoned, then what is new; [] as for `StreamSet.read`."""
        until_s = time.monotonic() + min(limit_s, self._longest_block_s)
        yield from self.send_acks()
        if self._server_is_new or time.monotonic() >= self._look_due_s:
            yield from self._look()
        for attempt in (self._own(), self._abandoned()):
            found = yield from attempt
            if found:
                return found
        found = yield from self._new(max(0.001, min(until_s, self._look_due_s) - time.monotonic()))
        if not found:
            self._look_due_s = min(self._look_due_s, time.monotonic() + IDLE_LOOK_INTERVAL_S)
        return found

    def _own(self) -> Steps[list[Page]]:
        """What was given to this consumer and not acknowledged: after a restart, or when a reply was lost."""
        while self._pending:
            reply = yield from self._read_group(self._pending)
            if reply is None:
                return []
            entries_by_key = dict(reply)
            for key in list(self._pending):
                if entries_by_key.get(key):
                    self._pending[key] = last_id = entries_by_key[key][-1][0]
                    self._given[key] = max(self._given[key], last_id, key=id_parts)
                else:
                    del self._pending[key]
            found = [(key, self._without_removed(key, entries)) for key, entries in reply]
            if any(entries for _, entries in found):
                return [page for page in found if page[1]]
        return []

    def _new(self, block_s: float) -> Steps[list[Page]]:
        if not self._given:
            yield Pause(block_s)
            return []
        try:
            found = (yield from self._read_group(dict.fromkeys(self._given, b">"), block_s)) or []
        except BaseException:
            self._server_is_new = True  # what was given to us by this reply is pending, and is read as such
            raise
        for key, entries in found:
            self._given[key] = entries[-1][0]
        return found

    def _read_group(self, ids: dict[bytes, bytes], block_s: float | None = None) -> Steps[list[Page] | None]:
        """The pages of a reply to XREADGROUP; None if the streams must be looked at first."""
        block = () if block_s is None else ("BLOCK", math.ceil(block_s * 1000))
        options = ("GROUP", self._group, self._consumer, "COUNT", self._page_entries, *block)
        try:
            return [*pages((yield Command(("XREADGROUP", *options, "STREAMS", *ids, *ids.values()))))]
        except redis.ResponseError as error:
            if error_code(error) not in _LOOK_AGAIN:
                raise
            self._look_due_s = -math.inf
            self._server_is_new = True  # in a cluster other streams may have given us something before
            return None

    def _abandoned(self) -> Steps[list[Page]]:
        """What was given to any consumer, and not acknowledged for too long: it is ours now."""
        now_s = time.monotonic()
        if now_s >= self._claim_due_s:
            self._claims = dict.fromkeys(self._given, BEGINNING)
            interval_s = max(_RECLAIM_INTERVAL_MIN_S, self._reclaim_after_s * _RECLAIM_INTERVAL_PART)
            self._claim_due_s = now_s + interval_s
        while self._claims:
            keys = [*self._claims]
            idle_ms = math.ceil(self._reclaim_after_s * 1000)
            who = (self._group, self._consumer, idle_ms)
            replies = yield Pipeline(
                [("XAUTOCLAIM", key, *who, self._claims[key], "COUNT", self._page_entries) for key in keys]
            )
            found = [(key, self._claimed(key, reply)) for key, reply in zip(keys, replies, strict=True)]
            if any(entries for _, entries in found):
                return [page for page in found if page[1]]
        return []

    def _claimed(self, key: bytes, reply: Any) -> list[Any]:
        """The entries in a reply to XAUTOCLAIM: [next id, entries, ids of entries that are no more (from 7.0 on)]."""
        if isinstance(reply, redis.RedisError):
            del self._claims[key]
            if error_code(reply) not in _LOOK_AGAIN:
                raise reply
            self._look_due_s = -math.inf
            return []
        next_id, entries, *removed = reply
        if next_id == BEGINNING:
            del self._claims[key]
        else:
            self._claims[key] = next_id
        self._say_removed(key, sum(map(len, removed)))
        found = [entry for entry in entries if entry is not None and entry[1] is not None]  # 6.2: nil for one removed
        if found:
            self.reclaimed += len(found)
            logger.warning(
                "%s: %d entries that nobody acknowledged for %g s are given to consumer %s of group %s",
                key.decode(), len(found), self._reclaim_after_s, self._consumer, self._group,
            )  # fmt: skip
        return found

    def _without_removed(self, key: bytes, entries: list[Any]) -> list[Any]:
        """Pending entries may have been trimmed or deleted: these are acknowledged, for nobody can handle them."""
        left = [entry for entry in entries if entry[1] is not None]
        self.add_acks((key, entry_id) for entry_id, fields in entries if fields is None)
        self._say_removed(key, len(entries) - len(left))
        return left

    def _say_removed(self, key: bytes, count: int) -> None:
        if count:
            logger.warning(
                "%s: %d entries were removed before group %s had handled them", key.decode(), count, self._group
            )

    def _look(self) -> Steps[None]:
        """Find the streams, and create the group where it is missing."""
        found = (yield from self._finder.scan()) if self._finder.due else set()
        ordered = sorted({*self._given, *found})
        with_group, without = yield from self._inspect(ordered)
        if self._settling_s and not self._established and with_group and without:
            yield Pause(self._settling_s)  # another consumer may be beginning the group just now
            with_group, without = yield from self._inspect(ordered)
        if not self._established and not with_group:
            self._to_begin = frozenset(without)
        created = yield from self._create(without)
        if not self._established and not ordered:
            logger.info("no stream matches %s yet: waiting for one", self._finder.pattern)
        self._established, self._to_begin = True, frozenset()
        for key in with_group | created:
            if key not in self._given:
                self._given[key] = self._pending[key] = BEGINNING
        if self._server_is_new:
            self._pending = dict(self._given)
            self._server_is_new = False
        self._look_due_s = time.monotonic() + self._finder.interval_s

    def _inspect(self, ordered: list[bytes]) -> Steps[tuple[set[bytes], list[bytes]]]:
        """The streams that have the group, and those that have it not."""
        replies = []
        if ordered:
            looks = (("XINFO", "GROUPS"), ("TYPE",), ("XINFO", "STREAM"))
            replies = yield Pipeline([(*look, key) for key in ordered for look in looks])
        with_group, without = set[bytes](), list[bytes]()
        for key, reply, kind, info in zip(ordered, replies[::3], replies[1::3], replies[2::3], strict=True):
            what = type_found(kind, reply)
            if what not in ("stream", None):
                self._drop(key, what)
            elif not isinstance(reply, Exception):
                groups = {told[b"name"]: told for told in map(dict, map(pairs, reply))}
                ours = groups.get(self._group.encode())
                if ours is None:
                    without.append(key)
                else:
                    with_group.add(key)
                    self._note_progress(key, ours, info)
        return with_group, without

    def _note_progress(self, key: bytes, group: dict[bytes, Any], info: Any) -> None:
        """Say what was removed before any consumer was given it."""
        if isinstance(info, Exception):
            return  # it is gone meanwhile; or our user may not ask, who needed no `+xinfo|stream` in earlier releases
        progress = self._progress.setdefault(key, GroupProgress())
        self._say_removed(key, progress.removed_unread(group, StreamInfo.of(info)))

    def _create(self, keys: list[bytes]) -> Steps[set[bytes]]:
        """Create the group on streams; the keys of those where it is then.

        All at once: of two consumers that begin the group together, none may see a half of it, and take the other
        half for streams that were born since. A cluster has no transaction over several slots: there the other waits
        for `settling_s` and looks again, and what one node refuses for now is begun later, as if it were now.
        """
        if not keys:
            return set()
        begin = {key: self._start.group_id(key) if key in self._to_begin else BEGINNING for key in keys}
        commands = [("XGROUP", "CREATE", key, self._group, entry_id) for key, entry_id in begin.items()]
        created = set()
        for key, reply in zip(keys, (yield Pipeline(commands, transaction=True)), strict=True):
            if isinstance(reply, redis.RedisError):
                if error_code(reply) not in _NOT_CREATED:
                    raise reply
                if error_code(reply) != "BUSYGROUP":
                    continue  # the stream has gone meanwhile
            created.add(key)
            self._progress.pop(key, None)
            if key in self._given:
                logger.warning(
                    "%s has lost its group %s (recreated, or the group destroyed): all that it holds is given again",
                    key.decode(), self._group,
                )  # fmt: skip
                del self._given[key]
        return created

    def _drop(self, key: bytes, what: str | None) -> None:
        if self._given.pop(key, None) is None:
            return
        for by_stream in (self._pending, self._claims, self._progress):
            by_stream.pop(key, None)
        if what == "none":
            logger.warning(
                "%s is gone (deleted or flushed): group %s begins anew if it returns", key.decode(), self._group
            )
        else:
            logger.warning("%s is no stream any more but a %s: it is not read", key.decode(), what)
