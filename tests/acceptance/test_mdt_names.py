"""MDTs in folders whose names were chosen to break paths, supervisord's configuration, shells or the keys of Redis."""

from __future__ import annotations

from hsm_shipper.contract.redis_keys import heartbeat_key
from tests.support.shipper import action_line
from tests.support.site import SimulatedServer
from tests.support.waiting import eventually

# Folders above the MDT's, which may be anything that can be printed.
FOLDERS = (
    "semicolon;hash#equals=at@", "quote'quote\"back\\slash", "shell$(touch${IFS}owned)`touch${IFS}owned`",
    "percent%expansion%(ENV_HOME)sformat{x}", "[program:evil]&|<>!~:é雪",
)  # fmt: skip
GOOD = ("elm-MDT0000", "elm-MDT000a", "e.l_m..-MDTffff", "x-MDT0000-MDT0000")
BAD = (
    "..-MDT0000", ".hid-MDT0001", "-x-MDT0002", "a b-MDT0003", "a\nb-MDT0004", "a:b-MDT0005", "a{b}-MDT0006",
    "a*-MDT0007", "a%(ENV_HOME)s-MDT0008", "a;b-MDT0009", "a[b]-MDT000a", "\u202ea-MDT000b", "é-MDT000c",
    "a\x1b[2J-MDT000d", "elm-MDT00٣4", "elm-MDTwxyz", "x" * 64 + "-MDT0001", "a'b-MDT000e", "a$b-MDT000f",
)  # fmt: skip


def mount(server: SimulatedServer, folder: str, name: str, rec: int) -> None:
    """An MDT with one action."""
    actions = server.root / "lists" / folder / name / "hsm/actions"
    actions.parent.mkdir(parents=True)
    actions.write_bytes(action_line(rec))


def is_told(name: str, log: str) -> bool:
    """Whether `log` says that this is no MDT's name."""
    return f"{name!r} is no MDT name" in log or f"{name!r}"[1:-1] in log


def test_each_that_is_a_name_is_served_and_the_others_are_passed_over(server: SimulatedServer) -> None:
    names = [f"f{number}-MDT{number:04x}" for number in range(len(FOLDERS))]
    for number, (folder, name) in enumerate(zip(FOLDERS, names, strict=True)):
        mount(server, folder, name, number)
    for number, name in enumerate((*GOOD, *BAD)):
        mount(server, "plain", name, number)
    server.configure(mdt_watch_glob=f"{server.root}/lists/*/*-MDT????/hsm/actions")
    server.start()
    mdts = (*names, *GOOD)
    server.wait_running(*mdts)
    beats = {heartbeat_key("hsm:actions", mdt).encode() for mdt in mdts}
    streams = {f"hsm:actions:{mdt}".encode() for mdt in mdts}
    eventually(lambda: {*server.redis.keys()} >= beats | streams)
    assert {*server.redis.keys()} - beats - streams == set()
    assert all(len(server.events(mdt)) == 1 for mdt in mdts)
    assert {path.name for path in server.state_dir.glob("*.sqlite3")} >= {f"{mdt}.sqlite3" for mdt in mdts}
    assert sorted(server.programs()) == sorted(["discovery", "maintenance", *(f"mdt-{mdt}" for mdt in mdts)])
    told = [name for name in BAD[1:] if not name.startswith(".")]  # which is hidden from patterns
    eventually(lambda: all(is_told(name, server.log.read_text()) for name in told))
    assert all(line.isprintable() for line in server.log.read_text().splitlines())
    assert not list(server.root.rglob("owned")) and server.stop() == 0
