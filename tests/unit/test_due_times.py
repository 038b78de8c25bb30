"""When maintenance is due, for a given now: intervals spread over MDTs, cron expressions as crontab reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.triggers.base import BaseTrigger

from hsm_shipper.config import Config
from hsm_shipper.cron_expression import check_cron
from hsm_shipper.errors import ConfigError
from hsm_shipper.maintenance.due_times import in_words, next_due, offset_s, times_missed, trigger_of

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)  # a Sunday
MDTS = [f"elm-MDT{number:04x}" for number in range(40)]


def cron(expression: str) -> BaseTrigger:
    return trigger_of(Config(reconcile_schedule=expression), MDTS[0])


def test_an_interval_is_kept_over_restarts_and_spread_over_mdts() -> None:
    interval = timedelta(hours=6)
    firsts = []
    for mdt in MDTS:
        trigger = trigger_of(Config(), mdt)
        first = next_due(trigger, NOW)
        assert first is not None and NOW <= first < NOW + interval
        # Made again a little later, as after a restart, it is due at the same time.
        assert next_due(trigger_of(Config(), mdt), first - timedelta(seconds=1)) == first
        assert next_due(trigger, first + timedelta(seconds=1)) == first + interval
        assert trigger.get_next_fire_time(first, first) == first + interval
        firsts.append(first)
    # No two at the same time, and something in each quarter of the interval.
    assert len(set(firsts)) == len(MDTS)
    assert {(first - NOW) // (interval / 4) for first in firsts} == {0, 1, 2, 3}


def test_an_offset_is_within_the_interval_and_the_mdts_own() -> None:
    assert offset_s("elm-MDT0000", 100.0) == offset_s("elm-MDT0000", 100.0) != offset_s("elm-MDT0001", 100.0)
    assert all(0 <= offset_s(mdt, 0.5) < 0.5 for mdt in MDTS)


@pytest.mark.parametrize(
    ("expression", "first", "second"),
    [
        ("30 2 * * *", "2026-11-23 02:30", "2026-11-24 02:30"),
        ("0 */4 * * *", "2026-11-22 16:00", "2026-11-22 20:00"),
        ("5,35 13 * * *", "2026-11-22 13:05", "2026-11-22 13:35"),
        ("0 0 1 * *", "2026-12-01 00:00", "2027-01-01 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00", "2032-02-29 00:00"),
        # Days of the week count from Sunday.
        ("0 3 * * 0", "2026-11-29 03:00", "2026-12-06 03:00"),
        ("0 3 * * 7", "2026-11-29 03:00", "2026-12-06 03:00"),
        ("0 3 * * 1", "2026-11-23 03:00", "2026-11-30 03:00"),
        ("0 3 * * 5-7", "2026-11-27 03:00", "2026-11-28 03:00"),
        ("0 3 * * SAT,sun", "2026-11-28 03:00", "2026-11-29 03:00"),
        ("0 3 * * fri-mon", "2026-11-23 03:00", "2026-11-27 03:00"),
        ("0 3 * * */3", "2026-11-25 03:00", "2026-11-28 03:00"),
        # With a day of the month and one of the week, either will do.
        ("0 3 24 * wed", "2026-11-24 03:00", "2026-11-25 03:00"),
        ("0 3 */2 * mon", "2026-11-23 03:00", "2026-12-07 03:00"),
    ],
)
def test_cron_means_what_crontab_says(expression: str, first: str, second: str) -> None:
    trigger = cron(expression)
    due = next_due(trigger, NOW)
    assert due is not None and f"{due:%Y-%m-%d %H:%M}" == first
    after = next_due(trigger, due + timedelta(seconds=1))
    assert after is not None and f"{after:%Y-%m-%d %H:%M}" == second


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "@daily",
        "61 * * * *",
        "* 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "0 0 * * someday",
        "0 0 * * 1/0",
        "0 0 ? * *",
        "5-1 * * * *",
        "0 0 30 2 *",
        "a b c d e",
        "0 0 * * -",
        "0 0 * * mon-",
        "0 0 * * mon-fri/",
    ],
)
def test_what_is_no_cron_expression_is_refused_in_one_line(expression: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_cron(expression)
    text = str(refused.value)
    assert "\n" not in text and repr(expression) in text and "reconcile_schedule" in text


def test_how_many_times_were_missed() -> None:
    trigger = cron("0 3 * * *")
    assert times_missed(trigger, NOW, NOW + timedelta(hours=13)) == 0
    assert times_missed(trigger, NOW, NOW + timedelta(hours=14)) == 1
    assert times_missed(trigger, NOW, NOW + timedelta(days=2)) == 2
    assert times_missed(trigger, NOW, NOW + timedelta(days=200)) == 2
    # A run that began when it was due has not missed that time.
    due = next_due(trigger, NOW)
    assert due is not None and times_missed(trigger, due, due + timedelta(hours=1)) == 0


def test_it_is_told_in_words() -> None:
    assert in_words(Config()) == "every 21600 s"
    assert in_words(Config(reconcile_schedule="30 2 * * *")) == "at '30 2 * * *' (cron, UTC)"
