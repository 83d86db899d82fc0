"""The picture of an account's days, drawn here: pages run no script.

It says nothing that the table under it does not, so that who hears the page misses nothing. Its text stands in the page
beside it and not in the picture, which a phone would shrink.
"""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 1_000
HEIGHT = 200
GRID_LINES = 4
# Of the room of a day.
BAR_SHARE = 0.8
# A day that used anything is seen to.
LEAST_HEIGHT = 1.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle in the picture's own units."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """What the picture is made of; `top` is the value at its upper edge."""

    bars: Sequence[Bar]
    grid: Sequence[float]
    top: int
    width: int = WIDTH
    height: int = HEIGHT


def of(values: Sequence[int]) -> Chart:
    """A bar for each value, from the left."""
    top = _round_up(max(values, default=0))
    room = WIDTH / max(1, len(values))
    bars = [_bar(place, value, room, top) for place, value in enumerate(values) if value > 0]
    return Chart(bars, [round(HEIGHT * line / GRID_LINES, 1) for line in range(GRID_LINES)], top)


def _bar(place: int, value: int, room: float, top: int) -> Bar:
    height = max(LEAST_HEIGHT, HEIGHT * value / top)
    x = room * (place + (1 - BAR_SHARE) / 2)
    return Bar(round(x, 2), round(HEIGHT - height, 2), round(room * BAR_SHARE, 2), round(height, 2))


def _round_up(value: int) -> int:
    """The next 1, 2, 4 or 5 times a power of ten: a number that is read at a glance."""
    power = 1
    while power * 10 < value:
        power *= 10
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)
