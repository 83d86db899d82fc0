"""What a run found, what was asked of it, and the table of all of it."""

from collections.abc import Sequence
from dataclasses import dataclass

COLUMNS = ("figure", "value", "asked", "")


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. `least` and `most` are what is asked of the value, where anything is."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def wrong(self) -> bool:
        return (self.least is not None and self.value < self.least) or (
            self.most is not None and self.value > self.most
        )

    def cells(self) -> tuple[str, ...]:
        return self.name, self._shown(self.value), self._asked(), self._verdict()

    def _asked(self) -> str:
        if self.least is not None and self.least == self.most:
            return self._shown(self.least)
        if self.most is not None:
            return f"<= {self._shown(self.most)}"
        return "" if self.least is None else f">= {self._shown(self.least)}"

    def _verdict(self) -> str:
        if self.least is None and self.most is None:
            return ""
        return "WRONG" if self.wrong else "ok"

    def _shown(self, value: float) -> str:
        number = f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
        return f"{number} {self.unit}".rstrip()


def exactly(name: str, value: int, asked: int) -> Figure:
    return Figure(name, value, least=asked, most=asked)


def none(name: str, value: int) -> Figure:
    """Of what there must be none."""
    return exactly(name, value, 0)


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines of text; numbers stand to the right."""
    rows = [COLUMNS, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].rjust(widths[2]), row[3].ljust(widths[3])]
        ).rstrip()
        for row in rows
    )
