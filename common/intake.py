"""Going through a batch's input once: which rows are jobs, which are bad, and which ids are there twice."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import compress, islice
from operator import eq

from common.errors import LineError
from common.input_rows import BadRow, InputRow, JobRow

MAX_ERRORS_SHOWN = 1_000
HASH_PARTS = 64


class Rejected(Exception):
    """The input has errors, and nothing of it may run: `errors` are the first by line, `counts` all of them by code."""

    def __init__(self, errors: list[LineError], counts: Counter[str]) -> None:
        super().__init__(f"{counts.total()} errors")
        self.errors = errors
        self.counts = counts


class LineErrors:
    """The errors of an input: all are counted, the first thousand of each kind of finding kept."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._shown: list[LineError] = []

    def __bool__(self) -> bool:
        return bool(self.counts)

    def add(self, error: LineError) -> None:
        self.counts[error.code] += 1
        if len(self._shown) < MAX_ERRORS_SHOWN:
            self._shown.append(error)

    def add_later(self, errors: Iterable[LineError]) -> None:
        """Errors found in a second pass, in the order of their lines too."""
        shown: list[LineError] = []
        for error in errors:
            self.counts[error.code] += 1
            if len(shown) < MAX_ERRORS_SHOWN:
                shown.append(error)
        self._shown = list(merge(self._shown, shown, key=lambda error: error.line))[:MAX_ERRORS_SHOWN]

    def check(self) -> None:
        """Raises Rejected if there is any."""
        if self:
            raise Rejected(self._shown, self.counts)


class Intake:
    """`read` gives the input's rows from the start each time it is called; `skip` lets bad rows fail alone. Rows that
    the reader names itself, as it numbers those of a CSV, are `ids_unique`: none need be compared.

    Of each custom_id only a hash is kept, eight bytes, and of rows that fail alone only that there are some. Where two
    hashes are the same, or rows fail, the input is read a second time: memory stays small for millions of rows, good
    or bad, and equal hashes of different ids do no harm.
    """

    def __init__(
        self, read: Callable[[], Iterable[InputRow]], max_rows: int, plan: str, skip: bool, ids_unique: bool
    ) -> None:
        self._read = read
        self._max_rows = max_rows
        self._plan = plan
        self._skip = skip
        self._ids_unique = ids_unique
        self._hashes = [array("q") for _ in range(HASH_PARTS)]
        self._some_fail = False
        self._first_too_many: int | None = None
        self.errors = LineErrors()
        # Whether it is known already that nothing of the input will run.
        self.refused = False
        self.total = 0

    def rows(self) -> Iterator[tuple[int, JobRow | BadRow]]:
        """Every row with its number from 0. A bad row that comes here fails alone; the others are in `errors`."""
        add_hash = [part.append for part in self._hashes]
        ids_unique = self._ids_unique
        seq = 0
        for row in self._read():
            if type(row) is JobRow:
                if not ids_unique:
                    hashed = hash(row.custom_id)
                    add_hash[hashed % HASH_PARTS](hashed)
                yield seq, row
            elif isinstance(row, BadRow):
                if row.custom_id and not ids_unique:
                    hashed = hash(row.custom_id)
                    add_hash[hashed % HASH_PARTS](hashed)
                if self._skip or row.fails_alone:
                    self._some_fail = True
                    yield seq, row
                else:
                    self.errors.add(row.error)
                    self.refused = True
            elif isinstance(row, LineError):
                self.errors.add(row)
                self.refused = True
                continue
            seq += 1
            if seq == self._max_rows + 1:
                self._first_too_many = _line(row)
                self.refused = True
        self.total = seq
        if self._first_too_many is not None:
            self._refuse_size(self._first_too_many)

    def _refuse_size(self, line: int) -> None:
        message = f"the file has {self.total:,} rows; the plan {self._plan} allows {self._max_rows:,} in a batch"
        self.errors.add(LineError("batch_too_large", line, f"{message}: split it", "file"))

    def failing_rows(self) -> Iterator[tuple[int, BadRow]]:
        """The rows that fail alone, once `rows` has ended: those it gave as bad and, with `skip`, those whose custom_id
        a row above has. Raises Rejected instead when the input has errors; repeated ids are among them without `skip`.
        """
        suspects = self._suspects()
        if suspects and not self._skip:
            self.errors.add_later(row.error for _, row in self._second_look(suspects, repeated_alone=True))
        self.errors.check()
        if self._some_fail or suspects:
            yield from self._second_look(suspects, repeated_alone=False)

    def _suspects(self) -> set[int]:
        """The hashes that are there more than once."""
        found: set[int] = set()
        for part in self._hashes:
            # A part at a time, since a list of numbers takes five times their bytes; and without a step of Python for
            # each of a million rows.
            ordered = sorted(part)
            found.update(compress(ordered, map(eq, ordered, islice(ordered, 1, None))))
        self._hashes.clear()
        return found

    def _second_look(self, suspects: set[int], *, repeated_alone: bool) -> Iterator[tuple[int, BadRow]]:
        first_lines: dict[str, int] = {}
        seq = -1
        for row in self._read():
            if isinstance(row, LineError):
                continue
            seq += 1
            repeated = None
            if row.custom_id and suspects and hash(row.custom_id) in suspects:
                line = _line(row)
                first = first_lines.setdefault(row.custom_id, line)
                if first != line:
                    repeated = _repeated(line, first, row)
            if isinstance(row, BadRow):
                if not repeated_alone:
                    yield seq, row
            elif repeated is not None:
                yield seq, repeated


def _repeated(line: int, first: int, row: JobRow | BadRow) -> BadRow:
    message = f"line {line} has the custom_id {row.custom_id!r}, as line {first} has: make it different"
    error = LineError("duplicate_custom_id", line, message, "custom_id")
    return BadRow(error, row.custom_id, tokens=row.tokens, cost=row.cost)


def _line(row: JobRow | BadRow) -> int:
    return row.line if isinstance(row, JobRow) else row.error.line
