"""Cells as CSV: UTF-8's characters, comma, a quote doubled inside quotes (RFC 4180)."""

from collections.abc import Sequence


def joined(cells: Sequence[str]) -> str:
    """What csv.writer writes for these cells, without the line's end, in a fraction of its time: it looks at each
    character in turn."""
    line = ",".join(cells)
    if '"' in line or "\n" in line or "\r" in line or line.count(",") >= len(cells):
        return ",".join(map(quoted_if_needed, cells))
    return line


def quoted_if_needed(cell: str) -> str:
    if '"' in cell:
        return '"' + cell.replace('"', '""') + '"'
    if "," in cell or "\n" in cell or "\r" in cell:
        return '"' + cell + '"'
    return cell
