"""Rows for a terminal: a table where it fits, else a block for each row. Nothing is ever cut."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

GAP: Final = "  "
BLOCK_GAP: Final = "   "
LEAST_NAME: Final = 20
"""A column of names that is narrower than this is no help."""
NO_WIDTH: Final = 1_000_000
"""A file or a pipe has none."""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and whether its cells are numbers, which stand to the right."""

    name: str
    is_number: bool = False


def make_columns(names: Iterable[str], *, numbers: Iterable[str] = ()) -> tuple[Column, ...]:
    """Columns by name; those of `numbers` stand to the right."""
    wanted = frozenset(numbers)
    return tuple(Column(name, name in wanted) for name in names)


def terminal_width() -> int:
    """Of what standard output goes to."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else NO_WIDTH


def format_rows(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """A head and a line a row where they fit into `width`; a name that is too long for that has a line of its own.

    Where the other cells alone are too wide, a block a row: its name, and below it the others after their headings.
    """
    widths = measure_columns(columns, rows)
    spare = width - sum(widths[1:]) - len(GAP) * (len(widths) - 1)
    if spare < min(LEAST_NAME, widths[0]):
        return [line for row in rows for line in format_block(columns, row, width)]
    widths[0] = min(widths[0], spare)
    head = [column.name for column in columns]
    return [line for cells in (head, *rows) for line in align_row(columns, widths, cells)]


def measure_columns(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> list[int]:
    """How wide each column is."""
    cells = [[column.name for column in columns], *rows]
    return [max(len(row[at]) for row in cells) for at in range(len(columns))]


def align_row(
    columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]
) -> Iterator[str]:
    """One row of a table; two lines where its name is wider than its column."""
    name, *others = cells
    if len(name) > widths[0]:
        yield name
        name = ""
    padded = (
        cell.rjust(width) if column.is_number else cell.ljust(width)
        for column, width, cell in zip(columns, widths, (name, *others), strict=True)
    )
    yield GAP.join(padded).rstrip()


def format_block(columns: Sequence[Column], row: Sequence[str], width: int) -> Iterator[str]:
    """One row on several lines; cells that are empty are left out."""
    yield row[0]
    parts = [
        f"{column.name} {cell}" for column, cell in zip(columns[1:], row[1:], strict=True) if cell
    ]
    yield from pack_parts(parts, width)


def wrap_text(text: str, width: int) -> list[str]:
    """A sentence on as many lines as it needs, broken between words alone."""
    return textwrap.wrap(
        text, width, subsequent_indent=GAP, break_long_words=False, break_on_hyphens=False
    ) or [""]


def pack_parts(
    parts: Iterable[str], width: int, *, indent: str = GAP, gap: str = BLOCK_GAP
) -> Iterator[str]:
    """The parts one after the other, on as few lines as they fit on; a part that is too long is wrapped at spaces."""
    line = indent
    for part in parts:
        if line != indent and len(line) + len(gap) + len(part) > width:
            yield line
            line = indent
        line += part if line == indent else gap + part
        while len(line) > width and (at := line.rfind(" ", len(indent), width + 1)) > len(indent):
            yield line[:at].rstrip()
            line = indent + line[at:].lstrip()
    if line != indent:
        yield line
