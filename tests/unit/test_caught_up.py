"""What a worker says of a stream that it caught up with."""

from __future__ import annotations

import logging

import msgspec
import pytest

from hsm_shipper.worker.catch_up_report import CaughtUp

Page = list[tuple[bytes, bytes | None]]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def page(*hosts: object) -> Page:
    """An entry by each of `hosts`; None for an earlier shipper, which names none."""
    return [
        (b"%d-0" % number, msgspec.json.encode({} if host is None else {"host": host}))
        for number, host in enumerate(hosts, 1)
    ]


def test_who_else_wrote_is_told_with_counts(caplog: pytest.LogCaptureFixture) -> None:
    account = CaughtUp("s")
    account.add(page("mds1", "mds2", None), [])
    account.add(page("mds2", "", 7), [])
    account.tell(None, 4, "mds1")
    assert caplog.messages == [
        "caught up with stream s from its beginning: 6 entries, 4 live actions, 0 malformed entries",
        "of these, other hosts wrote: 3 by an unnamed host, 2 by mds2",
    ]


def test_what_this_host_wrote_needs_no_second_line(caplog: pytest.LogCaptureFixture) -> None:
    account = CaughtUp("s")
    account.add(page("mds1", "mds1"), [])
    account.tell("7-0", 2, "mds1")
    assert caplog.messages == ["caught up with stream s from entry 7-0: 2 entries, 2 live actions, 0 malformed entries"]


def test_the_first_malformed_entry_is_named_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    account = CaughtUp("s")
    bad: Page = [(b"1-0", None), (b"2-0", b"{")]
    account.add(bad, [b"1-0", b"2-0"])
    account.add(bad, [b"1-0", b"2-0"])
    account.tell(None, 0, "mds1")
    first, last = caplog.messages
    assert first == "stream s: malformed entry 1-0 is passed over: the entry has no field 'data'"
    assert last.endswith("4 entries, 0 live actions, 4 malformed entries")


@pytest.mark.parametrize("data", [b'{"host": "\xff"}', b"[" * 100_000, b"{"], ids=["no UTF-8", "deep", "cut"])
def test_a_host_that_cannot_be_read_is_unnamed(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    account = CaughtUp("s")
    account.add([(b"1-0", data)], [])
    account.tell(None, 0, "mds1")
    assert caplog.messages[-1] == "of these, other hosts wrote: 1 by an unnamed host"
