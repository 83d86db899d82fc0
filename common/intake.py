"""Going through a batch's input once: which rows are jobs, which are bad, and which ids are there twice."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import pairwise

from common.errors import LineError
from common.input_rows import BadRow, InputRow, JobRow

MAX_ERRORS_SHOWN = 1_000


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
    """`read` gives the input's rows from the start each time it is called; `skip` lets bad rows fail alone.

    Of each custom_id only a hash is kept, eight bytes. Where two are the same the input is read again, so that memory
    stays small for an input of millions of rows and equal hashes of different ids do no harm.
    """

    def __init__(self, read: Callable[[], Iterable[InputRow]], max_rows: int, plan: str, skip: bool) -> None:
        self._read = read
        self._max_rows = max_rows
        self._plan = plan
        self._skip = skip
        self._hashes = array("q")
        self.errors = LineErrors()
        self.total = 0
        self._first_too_many: int | None = None

    def rows(self) -> Iterator[tuple[int, JobRow | BadRow]]:
        """Every row with its number from 0. A bad row that comes here fails alone; the others are in `errors`."""
        add_hash = self._hashes.append
        seq = 0
        for row in self._read():
            if type(row) is JobRow:
                add_hash(hash(row.custom_id))
                yield seq, row
            elif isinstance(row, BadRow):
                if row.custom_id:
                    add_hash(hash(row.custom_id))
                if self._skip or row.fails_alone:
                    yield seq, row
                else:
                    self.errors.add(row.error)
            elif isinstance(row, LineError):
                self.errors.add(row)
                self._skip = False
                continue
            seq += 1
            if seq == self._max_rows + 1:
                self._first_too_many = _line(row)
        self.total = seq
        if self._first_too_many is not None:
            self._refuse_size(self._first_too_many)

    @property
    def refused(self) -> bool:
        """Whether it is known already that nothing of the input will run."""
        return self._first_too_many is not None or bool(self.errors)

    def _refuse_size(self, line: int) -> None:
        message = (
            f"the file has {self.total:,} rows; the plan {self._plan} allows {self._max_rows:,} in a batch: split it"
        )
        self.errors.add(LineError("too_many_tasks", line, message, "file"))

    def repeated(self) -> list[tuple[int, BadRow]]:
        """The rows whose custom_id a row above has, once `rows` has ended. They are bad; see `rows`."""
        ordered = sorted(self._hashes)
        suspects = {above for above, below in pairwise(ordered) if above == below}
        del ordered
        found = self._repeated(suspects) if suspects else iter(())
        if self._skip:
            return list(found)
        self.errors.add_later(row.error for _, row in found)
        return []

    def _repeated(self, suspects: set[int]) -> Iterator[tuple[int, BadRow]]:
        first_lines: dict[str, int] = {}
        seq = -1
        for row in self._read():
            if isinstance(row, LineError):
                continue
            seq += 1
            if not row.custom_id or hash(row.custom_id) not in suspects:
                continue
            line = _line(row)
            first = first_lines.setdefault(row.custom_id, line)
            if first != line and isinstance(row, JobRow):
                message = f"line {line} has the custom_id {row.custom_id!r}, as line {first} has: make it different"
                error = LineError("duplicate_custom_id", line, message, "custom_id")
                yield seq, BadRow(error, row.custom_id)


def _line(row: JobRow | BadRow) -> int:
    return row.line if isinstance(row, JobRow) else row.error.line
