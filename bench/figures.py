"""What a measurement found, what was asked of it, and the table of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

COLUMNS = ("figure", "value", "baseline", "ratio", "asked", "")


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table. `baseline` has the unit of `value`, and the ratio is the value over it.

    At most one of the four bounds is set; each is a bound on the value or on the ratio. Without one, nothing is asked
    and `note` may say why.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    value_at_least: float | None = None
    value_below: float | None = None
    ratio_at_least: float | None = None
    ratio_at_most: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """None where there is nothing to compare with."""
        return self.value / self.baseline if self.baseline else None

    @property
    def short(self) -> bool:
        """Whether it falls short of what is asked. A ratio that is asked for and cannot be had falls short too."""
        ratio = self.ratio
        return (
            (self.value_at_least is not None and self.value < self.value_at_least)
            or (self.value_below is not None and self.value >= self.value_below)
            or (self.ratio_at_least is not None and (ratio is None or ratio < self.ratio_at_least))
            or (self.ratio_at_most is not None and (ratio is None or ratio > self.ratio_at_most))
        )

    @property
    def asked(self) -> str:
        """The bound in words, or the note."""
        if self.value_at_least is not None:
            return f">= {_shown(self.value_at_least)} {self.unit}"
        if self.value_below is not None:
            return f"< {_shown(self.value_below)} {self.unit}"
        if self.ratio_at_least is not None:
            return f"ratio >= {self.ratio_at_least:g}"
        if self.ratio_at_most is not None:
            return f"ratio <= {self.ratio_at_most:g}"
        return self.note

    def cells(self) -> tuple[str, ...]:
        return (
            self.name,
            f"{_shown(self.value)} {self.unit}",
            f"{_shown(self.baseline)} {self.unit}" if self.baseline is not None else "",
            f"{self.ratio:.2f}" if self.ratio is not None else "",
            self.asked,
            ("short" if self.short else "ok") if self.asked != self.note else "",
        )


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines of text, columns aligned."""
    rows = [COLUMNS, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join("  ".join(_aligned(row, widths)).rstrip() for row in rows)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Numbers stand to the right, words to the left."""
    numbers = range(1, 4)
    return [
        cell.rjust(width) if column in numbers else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _shown(value: float) -> str:
    """Three digits at least, and whole from a hundred on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share (0..1) of them lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def milliseconds(seconds: Sequence[float]) -> float:
    """The median, in milliseconds."""
    return median(seconds) * 1000
