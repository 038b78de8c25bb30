"""The lines that a simulated MDT prints, taken apart by their own shape: not by the parser of the project."""

from __future__ import annotations

import re

MDT = "elm-MDT0000"

LINE = re.compile(
    rb"lrh=\[type=10680000 len=(?P<len>\d+) idx=(?P<cat>\d+)/(?P<rec>\d+)\] "
    rb"fid=\[(?P<fid>0x[0-9a-f]+:0x[0-9a-f]+:0x0)\] dfid=\[(?P<dfid>0x[0-9a-f]+:0x[0-9a-f]+:0x0)\] "
    rb"compound/cookie=0x(?P<compound_id>[0-9a-f]+)/0x(?P<cookie>[0-9a-f]+) "
    rb"action=(?P<action>ARCHIVE|RESTORE|REMOVE|CANCEL) archive#=(?P<archive_id>-?\d+) flags=0x(?P<flags>0|4) "
    rb"extent=0x0-0xffffffffffffffff gid=0x0 datalen=(?P<datalen>\d+) "
    rb"status=(?P<status>WAITING|STARTED|FAILED|CANCELED|SUCCEED) data=\[(?P<data>(?:[0-9A-F]{2}){0,5})\]"
)


def parse(line: bytes) -> dict[str, str]:
    match = LINE.fullmatch(line)
    assert match is not None, line
    return {name: value.decode() for name, value in match.groupdict().items()}
