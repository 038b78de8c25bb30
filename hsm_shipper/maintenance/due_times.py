"""When the maintenance of an MDT is due: every so often, or as a cron expression says. All in UTC, and pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import md5

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from hsm_shipper.config import Config
from hsm_shipper.cron_expression import cron_trigger

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def trigger_of(config: Config, mdt: str) -> BaseTrigger:
    """When the maintenance of `mdt` is due."""
    if config.reconcile_schedule:
        return cron_trigger(config.reconcile_schedule)
    interval_s = config.reconcile_interval_s
    start = _EPOCH + timedelta(seconds=offset_s(mdt, interval_s))
    return IntervalTrigger(seconds=interval_s, start_date=start, timezone=UTC)


def in_words(config: Config) -> str:
    """When maintenance is due, for people."""
    if config.reconcile_schedule:
        return f"at {config.reconcile_schedule!r} (cron, UTC)"
    return f"every {config.reconcile_interval_s:g} s"


def offset_s(mdt: str, interval_s: float) -> float:
    """Where in each interval the turn of `mdt` is: the same on every server and after every restart."""
    digest = md5(mdt.encode(), usedforsecurity=False).digest()
    return interval_s * int.from_bytes(digest[:6], "big") / 2**48


def next_due(trigger: BaseTrigger, now: datetime) -> datetime | None:
    """The first due time at `now` or later."""
    due: datetime | None = trigger.get_next_fire_time(None, now)
    return due


def times_missed(trigger: BaseTrigger, since: datetime, now: datetime) -> int:
    """How many due times have passed since a run that began at `since`: 0, 1, or 2 for more than one."""
    first = next_due(trigger, since + timedelta(microseconds=1))
    if first is None or first > now:
        return 0
    second = next_due(trigger, first + timedelta(microseconds=1))
    return 1 if second is None or second > now else 2
