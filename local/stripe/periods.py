"""Billing periods: the boundaries that repeat from an anchor, in UTC; a month that lacks the day ends on its last."""

import calendar
from datetime import UTC, datetime

DAYS = {"day": 1, "week": 7}
MONTHS = {"month": 1, "year": 12}
DAY_SECONDS = 86_400


def next_boundary(anchor: int, interval: str, count: int, after: int) -> int:
    """The first boundary later than `after`, in seconds of the epoch."""
    if interval in DAYS:
        length = DAYS[interval] * count * DAY_SECONDS
        return anchor + ((after - anchor) // length + 1) * length
    months = MONTHS[interval] * count
    started, reached = datetime.fromtimestamp(anchor, UTC), datetime.fromtimestamp(after, UTC)
    number = max(0, ((reached.year - started.year) * 12 + reached.month - started.month) // months)
    while (boundary := _months_later(started, number * months)) <= after:
        number += 1
    return boundary


def _months_later(started: datetime, months: int) -> int:
    years, month = divmod(started.month - 1 + months, 12)
    year = started.year + years
    day = min(started.day, calendar.monthrange(year, month + 1)[1])
    return int(started.replace(year=year, month=month + 1, day=day).timestamp())
