"""Arrays as parameters of statements that many rows go into, or the one row of a job that somebody waits for."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

Element = UUID | datetime | str | int | None


def arrays(columns: Mapping[str, Iterable[Element]]) -> dict[str, str]:
    """Columns as PostgreSQL writes arrays, each for a parameter that is cast to its type. The driver's own way looks at
    the elements three times to find a type that the cast has named, and takes a millisecond for a record's arrays."""
    return {name: "{" + ",".join(map(_written, values)) + "}" for name, values in columns.items()}


def _written(value: Element) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
