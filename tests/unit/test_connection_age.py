"""When connections are made anew."""

from __future__ import annotations

from hsm_shipper.stream.connection_age import CONNECTION_AGE_MAX_S, ConnectionAge


def test_it_is_over_once_every_so_often() -> None:
    now_s = 100.0
    age = ConnectionAge(lambda: now_s)
    assert not age.is_over()
    now_s += CONNECTION_AGE_MAX_S - 0.1
    assert not age.is_over()
    now_s += 0.1
    assert age.is_over() and not age.is_over()
    now_s += CONNECTION_AGE_MAX_S
    assert age.is_over()
