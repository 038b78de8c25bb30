"""One function for each thing that reads what others wrote: it is given any bytes, and raises where that is wrong.

What is wrong is a foreign exception, an acceptance of what is not good, and an answer that a slow and strict reading of
the same bytes does not give.
"""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import redis

from hsm_shipper.config import load_config
from hsm_shipper.contract.agents import parse_agents
from hsm_shipper.contract.event import NEW, PURGED, SECONDS_MAX, UPDATE, decode, encode
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.contract.heartbeat import decode as decode_heartbeat
from hsm_shipper.contract.heartbeat import encode as encode_heartbeat
from hsm_shipper.contract.kernel_line import INDEX_MAX, parse_line, readable_place, unpack_place
from hsm_shipper.contract.redis_address import parse_url
from hsm_shipper.contract.stream_ids import is_entry_id, pack_id, unpack_id
from hsm_shipper.errors import ConfigError, MalformedEvent
from hsm_shipper.lustre.coordinator import read_slots
from hsm_shipper.process.output import printable
from hsm_shipper.state import values
from hsm_tools.consumer import StreamEvent
from hsm_tools.fid_paths.fid2path import ProgramRun, understand_lines, understand_nul, understand_single
from hsm_tools.tailing.event_line import Facts, event_line, facts
from tests.faults.model.reference import Live, ReferenceFold
from tests.fuzz.reading import line_of

_FIDS = ["0x200000401:0x1:0x0", "0x200000401:0x2:0x0", "0x200000401:0x22:0x0"]
_SECRET = "q8Zk2vXw9T"


def line(data: bytes) -> None:
    """A line of an actions file."""
    record, strict = parse_line(data), line_of(data)
    told = (
        None
        if record is None
        else (*unpack_place(record.place), record.fid, record.action, record.status, record.cookie)
    )
    assert told == strict, (told, strict)
    place = readable_place(data)
    assert place is None or 0 <= place <= INDEX_MAX << 32 | INDEX_MAX
    assert record is None or place == record.place


def event(data: bytes) -> None:
    """The field `data` of an entry."""
    try:
        found = decode(data)
    except MalformedEvent:
        return
    told = json.loads(data)
    assert told["event_type"] == found.event_type and found.event_type in (NEW, UPDATE, PURGED)
    for index in (found.cat_idx, found.rec_idx):
        assert index is None or 0 <= index <= INDEX_MAX
    for seconds in (found.timestamp, found.first_seen, found.status_since):
        assert seconds is None or (math.isfinite(seconds) and abs(seconds) <= SECONDS_MAX)
    if found.event_type == PURGED:
        assert found.action_key or (found.place is not None and (found.cookie or found.hash))
    else:
        assert found.place is not None and found.fid and found.action and found.status
    assert found.line_digest is None or len(found.line_digest) == 16
    assert decode(encode(found)) == found


def agents(data: bytes) -> None:
    """The file `agents`, and what a heartbeat makes of it."""
    copytools, not_understood = parse_agents(data)
    assert len(copytools) + not_understood == len(data.splitlines())
    beat = Heartbeat(
        host="h", pid=1, mdt="elm-MDT0000", last_poll_at=1.0, last_poll_duration_s=1.0, poll_interval_s=20.0, lines=0,
        live=0, backlog=0, copytools=copytools, agents_not_understood=not_understood,
    )  # fmt: skip
    assert decode_heartbeat(encode_heartbeat(beat)) == beat
    for copytool in copytools:
        ids = "ANY" if not copytool.archive_ids else ",".join(map(str, copytool.archive_ids))
        counts = f"current:{copytool.current} ok:{copytool.ok} errors:{copytool.errors}"
        again = f"uuid={copytool.uuid} archive_id={ids} requests=[{counts}]"
        assert parse_agents(again.encode()) == ([copytool], 0)


def heartbeat(data: bytes) -> None:
    """A heartbeat that somebody else may have written."""
    beat = decode_heartbeat(data)
    if beat is not None:
        assert decode_heartbeat(encode_heartbeat(beat)) == beat
        str(beat.lost_slots)


def tunables(data: bytes) -> None:
    """The small files of the coordinator."""
    with tempfile.TemporaryDirectory() as folder:
        actions = Path(folder, "elm-MDT0000", "hsm", "actions")
        actions.parent.mkdir(parents=True)
        parts = data.split(b"\0")
        for name, content in zip(("max_requests", "archive_count", "restore_count", "agents"), parts, strict=False):
            actions.with_name(name).write_bytes(content)
        slots = read_slots(actions)
        msgspec.json.encode(slots)
        assert slots.lost is None or slots.lost >= 0


def config(data: bytes) -> None:
    """A configuration file, and the same in the environment."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "shipper.yaml")
        file.write_bytes(data)
        with contextlib.suppress(ConfigError):
            _check_config(load_config(file, {}).config)
        text = data.decode("latin-1").replace("\0", "")
        key, _, value = text.partition("=")
        said = ""
        try:
            _check_config(load_config(Path("/dev/null"), {f"HSM_{key}": value}).config)
        except ConfigError as error:
            said = str(error)
        assert "\n" not in said


def _check_config(found: Any) -> None:
    assert 0 < found.poll_interval_s <= 366 * 86_400
    assert found.mdt_watch_glob.startswith("/") and found.mdt_watch_glob.endswith("/hsm/actions")
    assert not set("{}*?[]\\ \n") & set(found.redis_stream_prefix)
    assert found.redis_address.client_kwargs()


def url(data: bytes) -> None:
    """A `redis_url`; a password never shows."""
    text = data.decode("utf-8", errors="surrogateescape").replace("SECRET", _SECRET)
    told = []
    try:
        address = parse_url(text)
    except ConfigError as error:
        told.append(str(error))
    else:
        told += [str(address), repr(address)]
        assert text.isprintable() and " " not in text
        shown = parse_url(str(address).replace("%", "%25"))  # as a zone of IPv6 has it; people read it as it is
        assert (shown.nodes, shown.db, shown.service, shown.socket_path) == (
            address.nodes, address.db, address.service, address.socket_path,
        )  # fmt: skip
        if not (address.is_sentinel or address.is_cluster or address.socket_path):
            redis.Redis(**address.client_kwargs()).connection_pool.make_connection()
    scheme, _, rest = text.partition("://")
    userinfo = rest.rpartition("@")[0]
    if _SECRET in userinfo and _SECRET not in scheme + rest.rpartition("@")[2]:
        assert not any(_SECRET in words for words in told), told


def entry_ids(data: bytes) -> None:
    """An id of an entry."""
    text = data.decode("latin-1")
    if is_entry_id(text):
        assert unpack_id(pack_id(text)) == text
        assert pack_id(text) < 1 << 128


def fold(data: bytes) -> None:
    """Any order of events of a few actions, ours and earlier ones, against a slow fold of the same."""
    ours, slow = ActionFold(), ReferenceFold()
    for number, (what, who, how) in enumerate(zip(data[::3], data[1::3], data[2::3], strict=False), 1):
        told = _event(what, who, how)
        entry = json.dumps(told).encode()
        assert not ours.fold_page([(f"{number}-0".encode(), entry)])
        slow.add(number << 64, told)
    found = {unpack_place(action.place): action for action in ours}
    assert {place: _as_live(action) for place, action in found.items()} == slow.live
    assert [pack_id(action.entry) for action in ours] == sorted(live.entry for live in slow.live.values())


def _event(what: int, who: int, how: int) -> dict[str, Any]:
    place, action = who % 3, ("ARCHIVE", "RESTORE")[who // 3 % 2]
    fid, cookie = _FIDS[who // 6 % 2], f"0x{who // 12 % 3:x}"
    status = ("WAITING", "STARTED", "SUCCEED")[how % 3]
    told: dict[str, Any] = {"event_type": (NEW, UPDATE, PURGED)[what % 3], "action_key": f"{fid}:{action}"}
    told["timestamp"] = 1000 + how
    if told["event_type"] == PURGED and what & 4:
        return told  # as earlier shippers ended an action
    told |= {"cat_idx": 1, "rec_idx": place, "fid": fid, "action": action, "status": status}
    if what & 8:
        told["cookie"] = cookie
    if what & 16:
        told["hash"] = f"{how + 1:032x}"
    return told


def _as_live(action: Any) -> Live:
    digest = None if action.digest is None else action.digest.hex()
    return Live(action.fid, action.action, action.status, action.cookie, digest, pack_id(action.entry))


def state_values(data: bytes) -> None:
    """What a column of a state file may hold."""
    cells = [_cell(part) for part in data.split(b"\n")[:20]]
    for read, is_good in _COLUMNS:
        try:
            read(cells)
        except values.ImpossibleValue:
            taken = False
        else:
            taken = True
        assert taken == all(map(is_good, cells)), (read, cells)


def _cell(part: bytes) -> Any:
    """SQLite gives NULL, integers, floats, texts and blobs."""
    kind, rest = part[:1], part[1:]
    if kind == b"n":
        return None
    if kind == b"i":
        return int.from_bytes(rest[:8], "big", signed=True)
    if kind == b"d":
        return int(rest[:18]) if rest[:18].isdigit() else 0
    if kind == b"f":
        return float(len(rest)) / 3
    return rest.decode("latin-1") if kind != b"b" else rest


def _is_index(cell: Any) -> bool:
    return type(cell) is int and 0 <= cell <= INDEX_MAX


def _is_word(cell: Any) -> bool:
    return isinstance(cell, str) and cell != ""


def _is_hash(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and len(cell) == 32 and set(cell) <= set("0123456789abcdefABCDEF"))


def _is_time(cell: Any) -> bool:
    return cell is None or (type(cell) is int and abs(cell) <= 2**53)


def _is_id(cell: Any) -> bool:
    if not isinstance(cell, str):
        return cell is None
    halves = cell.split("-")
    digits = [half.isascii() and half.isdigit() and str(int(half)) == half for half in halves if len(half) <= 20]
    return len(halves) == 2 and digits == [True, True] and all(int(half) < 2**64 for half in halves)


_COLUMNS: list[tuple[Callable[[list[Any]], Any], Callable[[Any], bool]]] = [
    (lambda cells: values.places(cells, cells), _is_index),
    (lambda cells: values.words("fid", cells), _is_word),
    (values.cookies, lambda cell: cell is None or _is_word(cell)),
    (values.digests, _is_hash),
    (lambda cells: values.times("first_seen", cells), _is_time),
    (values.entries, _is_id),
]


def shown_text(data: bytes) -> None:
    """Whatever an event says, in a line for a terminal."""
    text = data.decode("utf-8", errors="surrogateescape")
    plain = printable(text)
    assert plain.isprintable() and printable(plain) == plain
    assert text != plain or text.isprintable()
    told: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(data)
    shown = StreamEvent(
        stream="hsm:actions:elm-MDT0000", id="1-0", data=told if isinstance(told, dict) else {"mdt": text}
    )
    for about in (facts(shown), Facts(text, text, text, text)):
        for path in (None, text):
            assert event_line(shown, about, path).isprintable()


def fid2path(data: bytes) -> None:
    """What a command prints that was asked for paths: answers to what was asked, and only to that."""
    status, rest = (data[0] % 4 if data else 0), data[1:]
    stdout, _, stderr = rest.partition(b"\xff\xff")
    run = ProgramRun(status, stdout, stderr)
    for answers in (understand_nul(_FIDS, run), understand_lines(_FIDS, run), understand_single(_FIDS[:1], run)):
        assert answers.keys() <= set(_FIDS)
        assert all(path is None or isinstance(path, str) for path in answers.values())


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        line, event, agents, heartbeat, tunables, config, url, entry_ids, fold, state_values, shown_text, fid2path,
    )
}  # fmt: skip
"""By name, which is also that of the folder of its corpus."""
