"""A stand-in for `lfs fid2path`, driven by the folder LFS_WORLD as `World` in `tests.support.lustre` describes it."""

import os
import signal
import sys
import time
from pathlib import Path

world = Path(os.environ["LFS_WORLD"])


def told(name: str) -> bytes | None:
    try:
        return (world / name).read_bytes()
    except FileNotFoundError:
        return None


def note(name: str, text: object) -> None:
    with (world / name).open("a") as file:
        file.write(f"{text}\n")


hangs = told("hang") is not None  # before a test sees that it runs, and may unset that
note("pids", os.getpid())
note("calls", " ".join(sys.argv[1:]))
if hangs:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(3600)
while told("held") is not None:
    time.sleep(0.01)
time.sleep(float(told("delay_s") or 0))
failure = told("fail")
if failure is not None:
    exit_status, _, words = failure.decode().partition(" ")
    sys.stderr.write(f"{words}\n")
    sys.exit(int(exit_status))

arguments = sys.argv[2:]
flags: set[str] = set()
link: int | None = None
while arguments[0].startswith("-"):
    option = arguments.pop(0)
    if option in (told("lacks") or b"").decode().split():
        sys.stderr.write(f"lfs fid2path: unrecognized option '{option}'\n")
        print("usage: fid2path [--link|-l <linkno>] <fsname|root> <fid>...")
        sys.exit(4)
    if option == "--link":
        link = int(arguments.pop(0))
    flags.add(option)
mount, *wanted = arguments
status = 0
for fid in wanted:
    paths = told(f"paths/{fid}")
    if paths is None:
        sys.stderr.write(f"lfs fid2path: cannot find {mount} {fid}: No such file or directory\n")
        status = status or 2
        continue
    links = paths.split(b"\0")[:-1]
    for path in links if link is None else links[link : link + 1]:
        named = f"{fid} ".encode() if "-f" in flags else b""
        sys.stdout.buffer.write(named + mount.encode() + b"/" + path + (b"\0" if "-0" in flags else b"\n"))
sys.exit(status)
