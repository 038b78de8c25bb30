"""What becomes of Redis and of what it holds, and who else writes to it."""

from __future__ import annotations

import json
import random

from hsm_shipper.contract.stream_ids import unpack_id
from tests.faults.model.drawn import any_mdt, any_worker, is_settled
from tests.faults.model.life import Life, Mdt, fid_of
from tests.faults.model.referee import Wrong, digest_of
from tests.support.core import line as kernel_line


def down_or_up(life: Life, rng: random.Random) -> str:
    """Redis is away for a while, or it is back."""
    life.is_down = not life.is_down and rng.random() < 0.6
    if not life.is_down and rng.random() < 0.3:
        life.server.scripts.clear()  # it was restarted
    return f"down: {life.is_down}"


def refuse(life: Life, rng: random.Random) -> str:
    """At its maxmemory, a read-only replica, or well again."""
    life.server.refuses = rng.choice((None, None, "OOM", "READONLY"))
    return str(life.server.refuses)


def another_type(life: Life, rng: random.Random) -> str:
    """Somebody puts something else in the place of a stream."""
    mdt = any_mdt(life, rng)
    _hand(life, *(("DEL", mdt.key) if mdt.key in life.server.strings else ("SET", mdt.key, "x")))
    life.begin_epochs()
    return mdt.name


def _hand(life: Life, *words: str | bytes) -> None:
    """Somebody's command, on whatever server it is: what it removes was said once."""
    refuses, life.server.refuses = life.server.refuses, None
    life.command(*words)
    life.server.refuses = refuses


def flush(life: Life, rng: random.Random) -> None:
    """FLUSHDB, or one stream deleted."""
    _hand(life, *(("FLUSHDB",) if rng.random() < 0.5 else ("DEL", any_mdt(life, rng).key)))
    life.begin_epochs()


def remember(life: Life, rng: random.Random) -> None:
    """A snapshot of Redis."""
    life.remembered = life.server.state()


def roll_back(life: Life, rng: random.Random) -> str | None:
    """Redis comes back with an old snapshot."""
    if life.remembered is None:
        return None
    life.server.streams = {key: stream.copy() for key, stream in life.remembered.items()}
    life.server.strings.clear()
    life.begin_epochs()
    return "rolled back"


def lose_tail(life: Life, rng: random.Random) -> str | None:
    """Redis dies with some acknowledged entries not on its disk."""
    mdt = any_mdt(life, rng)
    stream = life.stream(mdt)
    if stream is None or not stream.ids:
        return None
    lost = rng.randint(1, min(20, len(stream)))
    ids = stream.ids[-lost:]
    del stream.ids[-lost:], stream.fields[-lost:]
    stream.added -= lost
    stream.last = stream.ids[-1] if stream.ids else stream.max_deleted
    if not stream.ids:
        del life.server.streams[mdt.key]
    if rng.random() < 0.5:  # to a replica, on which somebody else was given the same ids
        for entry in ids:
            _hand(life, "XADD", mdt.key, unpack_id(entry), "data", "{}")
    life.begin_epochs(front_lost=True)
    return f"{lost} of {mdt.name}"


def delete_entries(life: Life, rng: random.Random) -> str | None:
    """XDEL by another hand: the newest, the first, or some anywhere."""
    mdt = any_mdt(life, rng)
    stream = life.stream(mdt)
    if stream is None or not stream.ids:
        return None
    which = rng.choice(
        ([stream.ids[-1]], [stream.ids[0]], rng.sample(stream.ids, min(len(stream), rng.choice((1, 5)))))
    )
    owner = life.worker(mdt)
    known = owner.replica._head
    has_moved = known is not None and known.first_id != unpack_id(stream.ids[0])
    delete(life, mdt, which)
    if not life.server.tells_deleted:
        # Before Redis 7.0 a deletion hides behind one of the first entry, or a trim: maintenance finds it, hours later.
        hides = has_moved or (bool(stream.ids) and min(which) < stream.ids[0])
        if hides or owner in life.busy or rng.random() < 0.5:
            life.hidden_losses.add(mdt.name)
        else:
            owner.poll()
    return f"{len(which)} of {mdt.name}"


def delete_below_a_deletion(life: Life, rng: random.Random) -> str | None:
    """XDEL that leaves the highest deleted id what it was: alone, or with the first entry."""
    worker = any_worker(life, rng)
    mdt, stream = worker.mdt, life.stream(worker.mdt)
    if not is_settled(life, worker) or stream is None or len(stream) < 4 or not life.server.tells_deleted:
        return None
    delete(life, mdt, [rng.choice(stream.ids[2:])])
    worker.poll()
    live = {action.entry for action in mdt.referee.fold.live.values()}
    below = [entry for entry in stream.ids[1:] if entry < stream.max_deleted and entry in live]
    if not below or not mdt.referee.is_true():  # what is missing has to be missed twice
        return None
    if rng.random() < 0.7:
        worker.kill()  # who is not in step looks at the stream anew
    delete(life, mdt, [*stream.ids[: rng.randint(0, 1)], rng.choice(below)])
    told = worker.poll()
    if not mdt.referee.is_true():
        raise Wrong(f"{mdt.name}: a deletion below another was not noticed")
    return f"{mdt.name}: {told}"


def delete(life: Life, mdt: Mdt, entries: list[int]) -> None:
    """XDEL by another hand."""
    _hand(life, "XDEL", mdt.key, *map(unpack_id, entries))
    life.begin_epochs(front_lost=True)


def trim_by_another_hand(life: Life, rng: random.Random) -> str:
    """XTRIM, whatever live actions need of it."""
    mdt = any_mdt(life, rng)
    left = rng.randint(0, len(life.stream(mdt) or ()))
    _hand(life, "XTRIM", mdt.key, "MAXLEN", "=", str(left))
    life.begin_epochs(front_lost=True)
    return f"{left} left of {mdt.name}"


def set_id(life: Life, rng: random.Random) -> str | None:
    """XSETID, as a restored replica may have it."""
    mdt = any_mdt(life, rng)
    stream = life.stream(mdt)
    if stream is None:
        return None
    _hand(life, "XSETID", mdt.key, unpack_id(stream.last + rng.randint(1, 5)))
    for worker in life.workers.values():
        if worker.mdt is mdt:
            worker.break_promises()  # what waits is not what came next, whenever it is told
    return mdt.name


def foreign_entries(life: Life, rng: random.Random) -> str:
    """Somebody else writes: no events, old events again, those of an earlier shipper."""
    mdt = any_mdt(life, rng)
    kind = rng.choice(("malformed", "many malformed", "copies", *["earlier shipper"] * 2, *_EARLIER))
    for fields in _foreign(life, rng, mdt, kind):
        _hand(life, "XADD", mdt.key, "*", *fields)
    return f"{kind} in {mdt.name}"


def _foreign(life: Life, rng: random.Random, mdt: Mdt, kind: str) -> list[list[bytes]]:
    stream = life.stream(mdt)
    if kind.endswith("malformed"):
        odd: list[list[bytes]] = [[b"data", b"no JSON"], [b"data", b"{}"], [b"other", b"x"], [b"data", b"\xff"]]
        many = life.sizes.slack_entries * 6 // 5
        return [rng.choice(odd) for _ in range(many if kind.startswith("many") else rng.randint(1, 3))]
    if kind == "copies":
        return rng.sample(stream.fields, min(len(stream), 3)) if stream is not None else []
    if kind == "earlier shipper":
        some = [_line_of_another_list(rng) for _ in range(2)]
        return [_earlier(mdt, rng.choice(some), rng.choice(_EARLIER), rng) for _ in range(rng.randint(1, 20))]
    if not mdt.lines:
        return []
    listed = [line.decode(errors="replace") for line in mdt.listing()]
    entry = _earlier(mdt, rng.choice(listed), kind, rng)
    if kind == "NEW" and rng.random() < 0.3:  # with the line of another place
        entry[1] = json.dumps(json.loads(entry[1]) | {"raw": rng.choice(listed)}).encode()
    return [entry]


_EARLIER = ("NEW", "PURGED", "PURGED by name")
"""What a shipper of before this one may say."""


def _line_of_another_list(rng: random.Random) -> str:
    line = kernel_line(
        rng.randint(1, 6),
        rng.choice(("WAITING", "SUCCEED")),
        cat=rng.randint(1, 2),
        fid=fid_of(rng.randint(1, 3)),
        action=rng.choice(("ARCHIVE", "RESTORE")),
        cookie=rng.randint(1, 3),
    )
    return line.decode()


def _earlier(mdt: Mdt, raw: str, kind: str, rng: random.Random) -> list[bytes]:
    """An entry of an earlier shipper about this line; a PURGED also of the record that had its place before."""
    fid = raw.split("fid=[")[1].split("]")[0]
    action = raw.split("action=")[1].split(" ")[0]
    cat_idx, rec_idx = raw.split("idx=")[1].split("]")[0].split("/")
    event: dict[str, object] = {"action_key": f"{fid}:{action}", "timestamp": 1_759_401_125}
    event["event_type"] = kind.split()[0]
    if kind != "PURGED by name":
        event |= {"mdt": mdt.name, "cat_idx": int(cat_idx), "rec_idx": int(rec_idx), "fid": fid, "action": action}
    if kind == "NEW":
        event |= {"status": raw.split("status=")[1].split(" ")[0], "raw": raw}
    if kind == "PURGED":
        who: list[dict[str, str]] = [{"cookie": "0x1"}, {"hash": "0" * 32}, {"hash": digest_of(raw.encode())}, {}]
        event |= {"status": "PURGED"} | rng.choice(who)
    return [b"data", json.dumps(event).encode()]


def move_clocks(life: Life, rng: random.Random) -> str:
    """Time passes, or somebody sets a clock: of the hosts, or of Redis."""
    how = rng.choice(("passes", "passes", "hosts", "server"))
    if how == "server":
        life.server_ahead_s = rng.choice((-3600.0, 0.0, 3600.0))
    else:
        seconds = rng.choice((1, 60, 86_400) if how == "passes" else (-3600, 3600))
        life.machine.let_pass(seconds) if how == "passes" else life.machine.set_clock(seconds)
    return how


def consumer_group(life: Life, rng: random.Random) -> str | None:
    """A consumer group comes, reads, acknowledges or goes."""
    mdt = any_mdt(life, rng)
    stream = life.stream(mdt)
    if stream is None:
        return None
    names = rng.sample(("g", "h"), rng.randint(1, 2))
    for name in names:
        group = stream.groups.get(name.encode())
        if group is None:
            _hand(life, "XGROUP", "CREATE", mdt.key, name, "0-0")
        elif rng.random() < 0.2:
            _hand(life, "XGROUP", "DESTROY", mdt.key, name)
        else:
            count = rng.choice(("3", "100"))
            _hand(life, "XREADGROUP", "GROUP", name, "c", "COUNT", count, "STREAMS", mdt.key, ">")
            _hand(life, "XACK", mdt.key, name, *map(unpack_id, group.pending[:-1]))
    return f"{names} of {mdt.name}"
