"""What a worker says of a stream that it caught up with."""

from __future__ import annotations

import logging

import msgspec
import pytest

from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.worker.catch_up_report import CaughtUp
from tests.support.core import earlier_event, line

Page = list[tuple[bytes, bytes | None]]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def page(*hosts: object) -> Page:
    """An entry by each of `hosts`; None for an earlier shipper, which names none."""
    return [
        (b"%d-0" % number, msgspec.json.encode(earlier_event(line(number)) | ({} if host is None else {"host": host})))
        for number, host in enumerate(hosts, 1)
    ]


def read(account: CaughtUp, *pages: Page) -> None:
    """Fold pages as a worker does."""
    live = ActionFold(account)
    for entries in pages:
        live.fold_page(entries)


def test_who_else_wrote_is_told_with_counts(caplog: pytest.LogCaptureFixture) -> None:
    account = CaughtUp("s")
    read(account, page("mds1", "mds2", None), page("mds2", "", None))
    account.tell(None, 4, "mds1")
    assert caplog.messages == [
        "caught up with stream s from its beginning: 6 entries, 4 live actions, 0 malformed entries",
        "of these, other hosts wrote: 3 by an unnamed host, 2 by mds2",
    ]


def test_what_this_host_wrote_needs_no_second_line(caplog: pytest.LogCaptureFixture) -> None:
    account = CaughtUp("s")
    read(account, page("mds1", "mds1"))
    account.tell("7-0", 2, "mds1")
    assert caplog.messages == ["caught up with stream s from entry 7-0: 2 entries, 2 live actions, 0 malformed entries"]


def test_the_first_malformed_entry_is_named_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    account = CaughtUp("s")
    bad: Page = [(b"1-0", None), (b"2-0", b"{")]
    read(account, bad, bad)
    account.tell(None, 0, "mds1")
    first, last = caplog.messages
    assert first == "stream s: malformed entry 1-0 is passed over: the entry has no field 'data'"
    assert last.endswith("4 entries, 0 live actions, 4 malformed entries")


def test_whoever_wrote_what_is_no_event_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    account = CaughtUp("s")
    read(account, page(7, "mds1"), [(b"9-0", b'{"host": "\xff"}'), (b"9-1", b"[" * 100_000), (b"9-2", b"{")])
    account.tell(None, 1, "mds1")
    assert caplog.messages[-1].endswith("5 entries, 1 live actions, 4 malformed entries")
