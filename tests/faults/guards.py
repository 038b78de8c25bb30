"""The guards of the core: what each holds off, and what the code is without it."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """`text`, which is in `file` once, becomes `instead`: the guard that `why` tells of is gone.

    `test` is what has to fail then; empty for the simulation.
    """

    file: str
    text: str
    instead: str
    why: str
    test: str = ""


MUTATIONS = [
    # What the worker knows of its stream.
    Mutation(
        "worker/stream_replica.py",
        "if head != self._head and self._has_losses(head):",
        "if False:",
        "entries that went from inside the stream are looked for behind every append",
    ),
    Mutation(
        "worker/stream_replica.py",
        "if self._head is None or head.end != self._head.end:",
        "if self._head is None:",
        "a stream that ends elsewhere is folded before anything is read",
    ),
    Mutation(
        "worker/stream_replica.py",
        "            self._abandon()\n            self._in_step = False\n            if isinstance",
        "            self._abandon()\n            if isinstance",
        "after an error of Redis the stream is looked at anew",
    ),
    Mutation("worker/stream_replica.py", "            _note_entries(flight)\n", "", "a state knows its entry"),
    Mutation(
        "worker/stream_replica.py",
        " and self._stream.holds(ours):",
        ":",
        "a replay goes on from an entry only if that is still what it was",
    ),
    Mutation(
        "worker/stream_replica.py",
        "if ours is not None and after is not None and has_losses(",
        "if False and has_losses(",
        "entries that went while others came are noticed by a catch-up",
    ),
    Mutation(
        "worker/stream_replica.py",
        "if self._state_file is not None and not self._state_file.is_current():",
        "if False:",
        "a state file that was removed or replaced is opened anew",
    ),
    # The state file.
    Mutation("state/state_file.py", "delete_actions(self._connection, (", "list((", "what is purged leaves the file"),
    Mutation(
        "state/state_file.py",
        ".without_actions(left).with_actions(put)\n        self.set_position(head)",
        ".without_actions(left).with_actions(put)",
        "the position is committed with the changes",
    ),
    Mutation("state/rows.py", "and row != self.found:", "and False:", "a file of two days is noticed"),
    # What waits for Redis.
    Mutation(
        "worker/outbox.py",
        "if next(self._rows).event == data:",
        "if next(self._rows) is not None:",
        "what is taken for appended is in the stream",
    ),
    Mutation(
        "worker/outbox.py",
        "        if not found.goes_on():\n",
        "        if False:\n",
        "what waits is dropped where the stream went another way",
    ),
    Mutation(
        "worker/outbox.py",
        "            state.take_out(rows)\n            state.apply(left",
        "            state.apply(left",
        "what was appended waits no more",
    ),
    Mutation(
        "worker/outbox.py",
        "        while left:\n",
        "        while False:\n",
        "what the stream turns out to hold is not appended again",
    ),
    Mutation(
        "worker/outbox.py",
        "        found.pop(place, None)\n        found.update(live.by_place)\n",
        "",
        "a list is compared with what waits as well",
    ),
    Mutation(
        "state/state_file.py",
        "if self.outbox.events else iter(digests)",
        "if False else iter(digests)",
        "a worker that starts knows what waits",
    ),
    Mutation(
        "worker/poller.py",
        "        snapshot.look_again(lambda _: False)\n",
        "",
        "of a poll that Redis left in the middle the rest waits",
        "tests/integration/test_outbox.py::test_redis_leaves_in_the_middle_of_a_poll",
    ),
    Mutation(
        "worker/stream_replica.py",
        "        self.outbox.takes_changes = self.waiting.events > 0\n",
        "",
        "nothing overtakes what waits",
        "tests/integration/test_outbox.py::test_what_takes_long_to_append_is_left_to_the_next_polls",
    ),
    Mutation(
        "worker/stream_replica.py",
        "self._follows = self._opened.outbox_follows()",
        "self._follows = True",
        "what waits goes on from the live actions as they are",
        "tests/integration/test_outbox_trust.py::test_live_actions_that_were_corrected_end_what_waits_of_them",
    ),
    Mutation(
        "state/outbox_rows.py",
        "if found != (row or OutboxSum()):",
        "if False:",
        "an outbox that somebody edited is not appended",
        "tests/integration/test_outbox_trust.py::test_an_outbox_that_is_damaged_is_set_aside_with_its_file",
    ),
    Mutation(
        "state/database.py",
        "hard = others_may_write(beside)",
        "hard = True",
        "a copy by links costs nothing that waits",
        "tests/integration/test_links.py::test_a_copy_by_links_costs_nothing",
    ),
    Mutation(
        "state/poll_status.py",
        "if self.last_error_at == self.last_poll_at else None",
        "if (self.last_error_at or 0) >= self.last_poll_at else None",
        "an error of before the clock was set back is not the last poll's",
        "tests/integration/test_clock_set_back.py",
    ),
    Mutation(
        "maintenance/scheduler.py",
        "if before_s - self._ahead_s > _SET_BACK_S:",
        "if False:",
        "a clock that is set back puts no maintenance off",
        "tests/unit/test_scheduler.py::test_a_clock_that_is_set_back_puts_nothing_off",
    ),
    Mutation(
        "worker/outbox.py",
        "if self.is_full or held.events + len(told) > bound.events or",
        "if",
        "an outbox has its bound",
        "tests/integration/test_outbox.py::test_what_has_no_room_is_counted",
    ),
    Mutation(
        "worker/outbox.py",
        "return not has_losses(self._left_at, self._now, self._beyond, lambda _: self._needs_front)",
        "return True",
        "what waits is not appended behind entries that went",
        "tests/integration/test_outbox_trust.py::test_an_entry_that_was_deleted_behind_a_lost_reply_ends_what_waits",
    ),
    # What the stream is.
    Mutation(
        "stream/compare_and_append.py",
        "        if not matched:\n            raise self._difference()\n",
        "",
        "an append that was refused is not taken for one that was done",
    ),
    Mutation(
        "stream/stream.py",
        "if pack_id(now.last_id) < pack_id(held.last_id):",
        "if False:",
        "a server that is behind is not believed",
    ),
    Mutation(
        "contract/stream_head.py",
        "known.max_deleted_id != now.max_deleted_id:\n        return True",
        "known.max_deleted_id != now.max_deleted_id:\n        return False",
        "XDEL is noticed",
    ),
    Mutation(
        "contract/stream_head.py",
        "return needs_before(now.first_id) or _may_hide_a_deletion(now)",
        "return _may_hide_a_deletion(now)",
        "a foreign trim of what is needed is noticed",
    ),
    Mutation(
        "contract/fold.py",
        "                before = by_place.pop(place, None)",
        "                before = by_place.get(place)",
        "live actions are in order of their entries: trimming goes by the first",
    ),
    Mutation(
        "contract/stream_head.py",
        "return now.length != known.length + added",
        "return False",
        "XDEL of what lies below another deletion is told by the number of entries",
    ),
    Mutation(
        "contract/stream_head.py",
        "if _is_before(now.first_id, known.first_id):",
        "if False:",
        "a front that goes back is another stream",
        "tests/faults/test_histories.py",
    ),
    Mutation(
        "contract/stream_head.py",
        "return pack_id(now.max_deleted_id) > pack_id(now.first_id)",
        "return False",
        "where the front has moved a deletion may hide behind another",
    ),
    Mutation(
        "contract/fold.py",
        "if not (cookie and occupant.mark[16:] == cookie.encode()) and not self._names(event, occupant):",
        "if False:",
        "a late PURGED does not end the next record of its place",
    ),
    Mutation(
        "contract/fold.py",
        "        if purged.cookie is not None and theirs is not None:\n            return purged.cookie == theirs\n",
        "",
        "PURGED goes by the cookie, where both have one",
    ),
    Mutation(
        "contract/fold.py",
        "            if known is not None:\n                return digest == known\n",
        "",
        "else by the line, where both tell it",
    ),
    Mutation(
        "contract/fold.py",
        "for place in self._places_by_key.pop(action_key, ()):",
        "for place in ():",
        "PURGED of an earlier shipper ends whatever has its name",
    ),
    Mutation(
        "contract/fold.py",
        "        if self._places_by_key is not None:\n            self._forget_key(occupant)\n        return occupant",
        "        return occupant",
        "what has ended has no name any more",
    ),
    Mutation(
        "state/stored_fold.py",
        "if event.event_type == PURGED or ",
        "if ",
        "what is stored decides what an end ends",
        "tests/integration/test_stored_fold.py",
    ),
    Mutation(
        "state/stored_fold.py",
        "(self._named | stored.keys())",
        "stored.keys()",
        "a place that a page fills and empties is empty",
        "tests/integration/test_stored_fold.py",
    ),
    Mutation(
        "state/stored_fold.py",
        "event.first_seen is None or ",
        "",
        "what an earlier shipper does not tell of its times is taken from what is stored",
        "tests/integration/test_stored_fold.py",
    ),
    Mutation(
        "contract/fold.py",
        "                if self._places_by_key is not None:\n                    self._keep_key(after)\n",
        "",
        "what has begun has its name",
    ),
    Mutation(
        "stream/stream.py",
        "if held.newest_id is not None and pages.sha1_of(held.newest_id) != held.newest_sha1:",
        "if False:",
        "nor one that is another",
    ),
    Mutation(
        "stream/stream.py",
        "if not page or page[0][0] != last.encode():",
        "if not page:",
        "a trim that overtakes a replay is noticed",
        "tests/integration/test_stream_replay.py",
    ),
    Mutation(
        "stream/stream.py",
        'if pending["pending"] else next_id',
        "if False else next_id",
        "what a consumer has not acknowledged is needed",
    ),
    Mutation(
        "contract/event.py",
        "elif event.place != record.place:",
        "elif False:",
        "an entry with the line of another place is none",
    ),
    # What is read.
    Mutation(
        "lustre/held_file.py",
        "            self._close()\n            return None\n",
        "            self._close()\n            return b''\n",
        "a held descriptor that fails is opened again, and is no empty list",
    ),
    Mutation(
        "lustre/actions_file.py",
        'self.fault = f"cannot read it after {self.lines} lines: {error.strerror}"',
        "self.fault = None",
        "an error is not the end of the list",
    ),
    Mutation(
        "lustre/actions_file.py",
        "if rest and self.fault is None:",
        "if False:",
        "a list whose last line has no end was cut off",
    ),
    Mutation(
        "worker/line_index.py",
        'del self._blocks[block.sha256]\n            self._remains.add(block)\n        block.sha256 = b""\n',
        "pass\n",
        "a block says nothing once a line has left it",
    ),
    Mutation(
        "worker/line_index.py",
        "            del self._blocks[block.sha256]\n            self._remains.add(block)\n",
        "            del self._blocks[block.sha256]\n",
        "what is left of a block is looked for",
    ),
    Mutation(
        "worker/line_index.py",
        "        elif block.members:\n            self._remains.add(block)\n",
        "",
        "and what a block holds that is not known yet",
    ),
    Mutation(
        "worker/line_index.py",
        "        if not all(block.sha256 for block in run.blocks):\n            return False\n",
        "",
        "nor does a run of which a block does not",
    ),
    Mutation(
        "worker/listing_scan.py",
        "if len(new_digests) == len(unknown) and len",
        "if len",
        "a block with a line that nobody understands is looked at again",
    ),
    Mutation(
        "worker/listing_scan.py",
        "            if self._present.add(new.record.place):\n",
        "            if self._present.add(new.record.place) or True:\n",
        "of two lines for a place one is not understood",
    ),
    # What is believed gone.
    Mutation("worker/purge_decision.py", "if fault is not None:", "if False:", "nothing is purged on half a list"),
    Mutation(
        "worker/purge_decision.py",
        "if coordinator is not None:",
        "if False:",
        "nothing is purged while the coordinator begins or stops",
    ),
    Mutation(
        "worker/purge_decision.py",
        "if 2 * len(missing) > scan.known_at_begin:",
        "if False:",
        "a list that lost most of its lines has to say so twice",
    ),
    Mutation("worker/purge_decision.py", "if beyond > LOST_END:", "if False:", "and so does one that lost its end"),
    Mutation(
        "worker/purge_decision.py",
        "if not scan.is_sorted():",
        "if False:",
        "a list that is not sorted has no end that could be seen",
    ),
    Mutation(
        "worker/purge_decision.py",
        "    if scan.not_understood:\n",
        "    if False:\n",
        "behind a line that nobody understands may be any action",
    ),
    Mutation(
        "worker/purge_decision.py",
        "purge = missing & absent_before",
        "purge = missing",
        "what a doubtful list lacks is not believed gone",
    ),
    Mutation(
        "worker/purge_decision.py",
        "return PurgeDecision(purge, missing - purge, doubt)",
        "return PurgeDecision(purge, set(), doubt)",
        "the second doubtful list is believed",
    ),
    Mutation(
        "worker/purge_decision.py",
        "return PurgeDecision(set(), absent_before & missing, doubt)",
        "return PurgeDecision(set(), absent_before, doubt)",
        "what half a list shows is not absent",
    ),
    Mutation(
        "worker/poller.py",
        "not_ready = snapshot.not_ready or self._not_ready()",
        "not_ready = snapshot.not_ready",
        "a coordinator may begin to stop while its list is read",
    ),
    Mutation(
        "worker/poller.py",
        "not_ready = snapshot.not_ready or self._not_ready()",
        "not_ready = self._not_ready()",
        "or be ready by its end",
    ),
    # What is said of it.
    Mutation(
        "worker/poller.py",
        "gone = merge(snapshot.replaced, snapshot.decision.purge)",
        "gone = iter(snapshot.decision.purge)",
        "an action ends before its place is taken by another",
    ),
    Mutation(
        "worker/poller.py",
        "        if not self._replica.shipped:\n            self._replica.compare()\n",
        "",
        "a poll without changes looks whether the stream is still there",
    ),
    Mutation(
        "worker/poller.py",
        "if not ascends(new, last_place):",
        "if False:",
        "of a first list that is not sorted no place is shipped twice",
    ),
    Mutation(
        "worker/changes.py",
        "new, after, timestamp, refresh=True), before",
        "new, after, timestamp), before",
        "a refresh says that it is one",
    ),
    Mutation("worker/changes.py", "if before.first_seen is not None:", "if False:", "an action keeps its age"),
    Mutation(
        "worker/changes.py",
        "and (before.cookie is None or before.cookie == record.cookie)",
        "",
        "the next record of a file in a place is another action",
    ),
    Mutation(
        "worker/snapshot.py",
        "            elif is_seen(before):\n",
        "            elif False:\n",
        "a second line for the place of an action that is there does not end it",
    ),
    Mutation(
        "worker/snapshot.py",
        "            elif before.place in self.scan.contested:\n",
        "            elif False:\n",
        "nor do two that are new",
        "tests/faults/test_histories.py",
    ),
    Mutation(
        "worker/poller.py",
        "if before is None or not self._is_said(new, before):",
        "if True:",
        "a line that has to be looked at is not sent again",
        "tests/faults/test_histories.py",
    ),
    Mutation(
        "worker/stream_replica.py",
        "            if self._opened.is_changed():\n                raise StateChanged",
        "            if False:\n                raise StateChanged",
        "rows that maintenance corrects meanwhile are not what the list was compared with",
    ),
    Mutation(
        "state/state_file.py",
        "                if self._data_version() != self._version:\n                    raise StateChanged",
        "                if False:\n                    raise StateChanged",
        "nor are they written over",
    ),
    # Maintenance.
    Mutation(
        "maintenance/trim.py",
        "oldest = next(iter(replay.live), None)",
        "oldest = None",
        "no entry that a live action needs is trimmed",
    ),
    Mutation(
        "maintenance/trim.py",
        "elif oldest is None or needed < oldest:\n            oldest = needed",
        "elif False:\n            oldest = needed",
        "no entry that a consumer group needs is trimmed",
    ),
    Mutation(
        "maintenance/trim.py", "        chosen.append(action)\n", "", "an old live action does not pin the stream"
    ),
    Mutation(
        "maintenance/reconcile.py",
        "delete_actions(self._connection, healed.missing)",
        "pass",
        "what the stream has lost leaves the state file, and is appended again",
    ),
    Mutation(
        "maintenance/reconcile.py",
        "healed.orphans.extend(action for action in live if action.place not in known)",
        "pass",
        "what only the stream has enters it",
    ),
    Mutation(
        "maintenance/reconcile.py",
        "                healed.differing.append(theirs)",
        "                pass",
        "a state that differs becomes the stream's",
    ),
    Mutation(
        "maintenance/cycle.py",
        "state.correct(healed, replay.head(position))",
        "state.correct(healed, position)",
        "what was corrected is of the stream that it was corrected by, and of no copy of before",
        "tests/faults/test_histories.py",
    ),
    Mutation(
        "maintenance/trim.py",
        "elif oldest is None or needed < oldest:\n            oldest = needed",
        "else:\n            oldest = needed",
        "nor one that another group needs",
        "tests/faults/test_histories.py",
    ),
    # What the simulation does not have.
    Mutation(
        "stream/compare_and_append.lua",
        "local moved = last ~= ARGV[1] or (newest ~= '' and (newest ~= ARGV[2] or digest ~= ARGV[3]))",
        "local moved = last ~= ARGV[1]",
        "the script compares the newest entry",
        "tests/integration/test_stream.py",
    ),
    Mutation(
        "stream/compare_and_append.lua",
        "local moved = last ~= ARGV[1] or (newest ~= '' and (newest ~= ARGV[2] or digest ~= ARGV[3]))",
        "local moved = newest ~= '' and (newest ~= ARGV[2] or digest ~= ARGV[3])",
        "and the last id",
        "tests/integration/test_stream.py",
    ),
    Mutation(
        "stream/compare_and_append.lua",
        "local entries_gone = ARGV[5] ~= '' and first == ARGV[4] and length ~= tonumber(ARGV[5])",
        "local entries_gone = false",
        "and the number of entries",
        "tests/integration/test_stream.py",
    ),
    Mutation(
        "stream/compare_and_append.lua",
        "local entries_deleted = ARGV[6] ~= '' and deleted ~= '' and deleted ~= ARGV[6]",
        "local entries_deleted = false",
        "and the highest deleted id",
        "tests/integration/test_stream.py",
    ),
    Mutation(
        "stream/compare_and_append.lua",
        "  redis.call('XTRIM', KEYS[1], 'MAXLEN', '9223372036854775807')\n",
        "",
        "a poll without changes finds out that it talks to a replica",
        "tests/integration/test_redis_model.py",
    ),
    Mutation(
        "stream/trim.lua",
        "if ms < tonumber(ARGV[2]) or (ms == tonumber(ARGV[2]) and seq < tonumber(ARGV[3])) then",
        "if false then",
        "a stream that is behind is not trimmed",
        "tests/integration/test_cycle_interrupted.py",
    ),
    Mutation(
        "stream/compare_and_append.py",
        "            if self._payloads and reply[0]:\n                self._wait_until_kept()\n",
        "",
        "what was appended is waited for until replicas have it",
        "tests/integration/test_keeping.py",
    ),
    Mutation(
        "worker/stream_replica.py",
        "                self._stream.confirm_kept()  # first",
        "                pass  # first",
        "and so is what is folded",
        "tests/integration/test_keeping.py",
    ),
    Mutation(
        "lustre/held_file.py",
        "if self._raw.is_current():",
        "if True:",
        "a file that another has taken the place of is opened again",
        "tests/unit/test_held_file.py",
    ),
    Mutation(
        "lustre/held_file.py",
        "if chunk := self._raw.read(size):",
        "if (chunk := self._raw.read(size)) is not None:",
        "an empty list on a held descriptor is not believed",
        "tests/unit/test_held_file.py",
    ),
    Mutation(
        "lustre/held_file.py",
        "if self._raw is None or turn != self._turn:",
        "if self._raw is None:",
        "a reading ends where another one began",
        "tests/unit/test_held_file.py",
    ),
    Mutation(
        "worker/purge_decision.py",
        "if 2 * scan.not_understood > scan.lines:",
        "if False:",
        "a list that nobody understands ends nothing",
        "tests/unit/test_purge_decision.py",
    ),
    Mutation(
        "worker/stream_replica.py",
        "if told not in (None, action.digest):",
        "if False:",
        "a line that changed alone is looked up in the stream",
        "tests/integration/test_replica_state.py",
    ),
    Mutation(
        "state/state_file.py",
        'self._connection.execute("DELETE FROM missed")\n        self._connection.execute("DELETE FROM refresh")',
        "pass",
        "what was missed or marked is void once the stream was folded",
        "tests/faults/test_histories.py",
    ),
    Mutation(
        "state/state_file.py",
        "            refuse_damage(self._connection, self.path)\n",
        "",
        "a state file that SQLite finds broken is set aside",
        "tests/integration/test_state_file.py",
    ),
    Mutation(
        "state/locks.py",
        "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n        except BlockingIOError:\n            holder",
        "pass\n        except BlockingIOError:\n            holder",
        "no two workers have one state file",
        "tests/integration/test_locks.py",
    ),
    Mutation(
        "maintenance/trim.py",
        "        keep_going()\n        gone",
        "        gone",
        "who has lost the lock does not trim",
        "tests/integration/test_cycle_interrupted.py",
    ),
]
"""Of `hsm_shipper/`."""
