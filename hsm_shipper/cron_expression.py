"""Cron expressions as crontab(5) has them, for APScheduler, which reads them otherwise. All in UTC, and pure."""

from __future__ import annotations

from datetime import UTC, datetime

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from hsm_shipper.errors import ConfigError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_EXAMPLE = 'give minute, hour, day of month, month and day of week, as in "30 2 * * *" for half past two UTC'


def check_cron(expression: str) -> None:
    """Raise `ConfigError` unless `expression` can be used as `reconcile_schedule`."""
    try:
        trigger = cron_trigger(expression)
    except ValueError as error:
        raise ConfigError(f"reconcile_schedule: {expression!r} cannot be used: {error}", _EXAMPLE) from None
    if trigger.get_next_fire_time(None, _EPOCH) is None:
        raise ConfigError(f"reconcile_schedule: {expression!r} names a date that never comes", _EXAMPLE)


def cron_trigger(expression: str) -> BaseTrigger:
    """When `expression` is due; `ValueError` says why it is none."""
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
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        begin, end = (0, 6) if span == "*" else (_weekday(first), _weekday(last if dash else first))
        if end < begin:
            end += 7  # fri-sun
        days |= {day % 7 for day in range(begin, end + 1, int(step) if slash else 1)}
    return ",".join(_DAYS[day] for day in sorted(days))


def _weekday(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text.isdecimal() and int(text) <= 7:
        return int(text)
    raise ValueError(f"{text!r} is no day of the week (0 to 7 from Sunday, or sun to sat)")
