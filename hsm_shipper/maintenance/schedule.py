"""When the maintenance of an MDT is due: every so often, or as a cron expression says. All in UTC, and pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import md5

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from hsm_shipper.config import Config
from hsm_shipper.errors import ConfigError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_EXAMPLE = 'give minute, hour, day of month, month and day of week, as in "30 2 * * *" for half past two UTC'


def trigger_of(config: Config, mdt: str) -> BaseTrigger:
    """When the maintenance of `mdt` is due."""
    if config.reconcile_schedule:
        return _cron(config.reconcile_schedule)
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


def check_cron(expression: str) -> None:
    """Raise `ConfigError` unless `expression` can be used as `reconcile_schedule`."""
    try:
        trigger = _cron(expression)
    except ValueError as error:
        raise ConfigError(f"reconcile_schedule: {expression!r} cannot be used: {error}", _EXAMPLE) from None
    if next_due(trigger, _EPOCH) is None:
        raise ConfigError(f"reconcile_schedule: {expression!r} names a date that never comes", _EXAMPLE)


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


def _cron(expression: str) -> BaseTrigger:
    fields = expression.split()
    if len(fields) != 5:
        raise ValueError(f"it has {len(fields)} fields, not five")
    minute, hour, day, month, weekday = fields
    days = _weekdays(weekday)
    if day.startswith("*") or weekday.startswith("*"):
        return CronTrigger(minute=minute, hour=hour, day=day, month=month, day_of_week=days, timezone=UTC)
    # crontab(5): with both given, either will do. APScheduler wants both.
    return OrTrigger(
        [
            CronTrigger(minute=minute, hour=hour, day=day, month=month, timezone=UTC),
            CronTrigger(minute=minute, hour=hour, month=month, day_of_week=days, timezone=UTC),
        ]
    )


def _weekdays(field: str) -> str:
    """Days by name: crontab counts from Sunday (0 or 7), APScheduler from Monday."""
    days: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin, end = (0, 6) if span == "*" else (_weekday(first), _weekday(last or first))
        if end < begin:
            end += 7  # fri-sun
        days |= {day % 7 for day in range(begin, end + 1, int(step or 1))}
    return ",".join(_DAYS[day] for day in sorted(days))


def _weekday(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text.isdecimal() and int(text) <= 7:
        return int(text)
    raise ValueError(f"{text!r} is no day of the week (0 to 7 from Sunday, or sun to sat)")
