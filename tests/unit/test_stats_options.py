"""The command line of `hsm-stream-stats`: addresses."""

from __future__ import annotations

import argparse

import pytest

from hsm_tools.statistics.stats_options import Address, address


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        (":9879", "127.0.0.1", 9879, "127.0.0.1:9879"),
        ("0.0.0.0:1", "0.0.0.0", 1, "0.0.0.0:1"),
        ("mds1.example.org:65535", "mds1.example.org", 65_535, "mds1.example.org:65535"),
        ("[::]:9879", "::", 9879, "[::]:9879"),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80, "[fe80::1%eth0]:80"),
    ],
)
def test_an_address_is_understood(text: str, host: str, port: int, shown: str) -> None:
    assert address(text) == Address(host, port)
    assert str(address(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "9879", ":", ":x", ":-1", ":65536", "::1:80", "[::1]", "a:b:1", ": 80", ":٨٠", "a..b:1"]
)
def test_what_is_none_is_an_error(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        address(text)
