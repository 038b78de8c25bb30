"""One function for each thing that reads what others wrote: it is given any bytes, and raises where that is wrong.

What is wrong is a foreign exception, an acceptance of what is not good, and an answer that a slow and strict reading of
the same bytes does not give.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import redis
from supervisor.options import UnhosedConfigParser

from hsm_shipper.config import load_config
from hsm_shipper.contract.agents import parse_agents
from hsm_shipper.contract.event import NEW, PURGED, SECONDS_MAX, UPDATE, decode, encode
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.contract.heartbeat import decode as decode_heartbeat
from hsm_shipper.contract.heartbeat import encode as encode_heartbeat
from hsm_shipper.contract.kernel_line import INDEX_MAX, parse_line, readable_place, unpack_place
from hsm_shipper.contract.redis_address import RedisAddress, parse_url
from hsm_shipper.contract.redis_keys import heartbeat_key, is_mdt_name, mdt_of, stream_key
from hsm_shipper.contract.stream_ids import is_entry_id, pack_id, unpack_id
from hsm_shipper.errors import ConfigError, MalformedEvent
from hsm_shipper.lustre.coordinator import read_slots
from hsm_shipper.lustre.mdts import is_usable
from hsm_shipper.process.output import printable
from hsm_shipper.redis_settings import FILE_KEYS
from hsm_shipper.state import values
from hsm_shipper.state.poll_status import state_file
from hsm_shipper.supervision.supervisord import worker_program
from hsm_tools.consumer import StreamEvent
from hsm_tools.event import EntryDecoder
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
    # What folds take for an event every consumer is given, as the same.
    [given] = EntryDecoder(refreshes=True).events(b"s", [(b"1-0", [b"data", data])], lambda *_: None)
    assert given.event == found


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
    parts = data.split(b"\0")
    for number, descriptor in enumerate(_coordinator()[1]):
        _fill(descriptor, parts[number] if number < len(parts) else b"")
    slots = read_slots(_coordinator()[0])
    msgspec.json.encode(slots)
    assert slots.lost is None or slots.lost >= 0


@cache
def _coordinator() -> tuple[Path, list[int]]:
    """The actions file of an MDT, and the files beside it: in memory, for to make files takes longer than all else."""
    root = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    folder = Path(root, "elm-MDT0000", "hsm")
    folder.mkdir(parents=True)
    descriptors = []
    for name in ("max_requests", "archive_count", "restore_count", "agents"):
        descriptors.append(os.memfd_create(name))
        (folder / name).symlink_to(_path_of(descriptors[-1]))
    return folder / "actions", descriptors


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}")


def _fill(descriptor: int, data: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)


_config_file = cache(lambda: os.memfd_create("shipper.yaml"))


def config(data: bytes) -> None:
    """A configuration file, and the same in the environment."""
    _fill(_config_file(), data)
    with contextlib.suppress(ConfigError):
        _check_config(load_config(_path_of(_config_file()), {}).config)
    text = data.decode("latin-1").replace("\0", "")
    key, _, value = text.partition("=")
    said = ""
    _fill(_config_file(), b"")
    try:
        _check_config(load_config(_path_of(_config_file()), {f"HSM_{key}": value}).config)
    except ConfigError as error:
        said = str(error)
    assert "\n" not in said


def _check_config(found: Any) -> None:
    assert 0 < found.poll_interval_s <= 366 * 86_400
    assert found.mdt_watch_glob.startswith("/") and found.mdt_watch_glob.endswith("/hsm/actions")
    assert not set("{}*?[]\\ \n") & set(found.redis_stream_prefix)
    assert found.redis_address.client_kwargs()
    for path in (getattr(found, key) for key in FILE_KEYS):
        assert path is None or (b"\0" not in os.fsencode(path) and path.startswith("/"))
    assert msgspec.json.encode(found), "so the programs are given it"
    assert str(found.redis_address).isprintable()


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
        assert str(address).isprintable()
        # People read it as it is: a zone of IPv6 has a '%', the path of a socket may have anything that can be seen.
        shown = parse_url(
            f"unix://{quote(address.socket_path)}?db={address.db}"
            if address.socket_path
            else str(address).replace("%", "%25")
        )
        assert (shown.nodes, shown.db, shown.service, shown.socket_path) == (
            address.nodes, address.db, address.service, address.socket_path,
        )  # fmt: skip
        _check_taken(address)
    scheme, _, rest = text.partition("://")
    userinfo = rest.rpartition("@")[0]
    if _SECRET in userinfo and _SECRET not in scheme + rest.rpartition("@")[2]:
        assert not any(_SECRET in words for words in told), told


def _check_taken(address: RedisAddress) -> None:
    """That redis-py takes what was made of the address: by names and kinds of values, for it looks at no more."""
    if not (address.is_sentinel or address.is_cluster or address.socket_path):
        kwargs = address.client_kwargs() | {"host": "h", "port": 1, "db": 0}
        _taken(tuple(sorted((name, _Taken(value)) for name, value in kwargs.items())))


class _Taken:
    """A value, equal to all others of its kind that redis-py cannot tell from it."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self._kind = value if isinstance(value, bool | list) else type(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Taken) and self._kind == other._kind

    def __hash__(self) -> int:
        return hash(repr(self._kind))

    def __lt__(self, other: object) -> bool:
        return False


@lru_cache(maxsize=1024)
def _taken(options: tuple[tuple[str, _Taken], ...]) -> None:
    redis.Redis(**{name: taken.value for name, taken in options}).connection_pool.make_connection()


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
        told, entry = _event(what, who, how)
        assert not ours.fold_page([(f"{number}-0".encode(), entry)])
        slow.add(number << 64, told)
    found = {unpack_place(action.place): action for action in ours}
    assert {place: _as_live(action) for place, action in found.items()} == slow.live
    assert [pack_id(action.entry) for action in ours] == sorted(live.entry for live in slow.live.values())


@lru_cache(maxsize=1 << 16)
def _event(what: int, who: int, how: int) -> tuple[dict[str, Any], bytes]:
    told = _told(what, who, how)
    return told, json.dumps(told).encode()


def _told(what: int, who: int, how: int) -> dict[str, Any]:
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


def program(data: bytes) -> None:
    """The name of an MDT and the folders above it: in Redis' keys, file names, and supervisord's configuration."""
    text = data.decode("utf-8", errors="surrogateescape")
    folders, _, mdt = text.rpartition("/")
    actions = Path(f"/{folders}", mdt, "hsm/actions")
    assert mdt_of("hsm:actions", stream_key("hsm:actions", mdt)) == mdt
    if not is_mdt_name(mdt) or not is_usable(actions):
        return
    key = heartbeat_key("hsm:actions", mdt)
    assert key.count("{") == key.count("}") == 1 and not set(mdt) & set("*?[]\\{}/: \n")
    assert state_file(Path("/state"), mdt).parent == Path("/state")
    assert state_file(Path("/state"), mdt).name == f"{mdt}.sqlite3"
    parser = UnhosedConfigParser()
    parser.read_string(worker_program(mdt, actions))
    assert parser.sections() == [f"program:mdt-{mdt}"]
    expansions = {"ENV_SHIPPER_RUN_DIR": "/run/hsm", "ENV_SHIPPER_LOG": "/log"}
    command = shlex.split(parser.saneget(f"program:mdt-{mdt}", "command", expansions=expansions))
    assert command[4:] == ["--mdt", mdt, "--actions", str(actions), "--config", "/run/hsm/config.json"]
    assert parser.saneget(f"program:mdt-{mdt}", "stdout_logfile", expansions=expansions) == "/log"


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        line, event, agents, heartbeat, tunables, config, url, entry_ids, fold, state_values, shown_text, fid2path,
        program,
    )
}  # fmt: skip
"""By name, which is also that of the folder of its corpus."""

MAX_BYTES = {
    "line": 512, "event": 1024, "agents": 512, "heartbeat": 1024, "tunables": 256, "config": 512, "url": 256,
    "entry_ids": 64, "fold": 96, "state_values": 256, "shown_text": 192, "fid2path": 256, "program": 192,
}  # fmt: skip
"""How long an input may be, by target: some twice of what is usual there, since longer ones only take longer."""
