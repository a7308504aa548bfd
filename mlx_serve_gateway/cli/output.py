"""What a command prints: data on stdout, everything else on stderr, tables that align.

Invariants: a reader who leaves (``| head -1``) or a full disk costs the text, never the command;
text from elsewhere cannot steer the terminal; in a pipe nothing is cut or wrapped.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.table import Table

_UNLIMITED_WIDTH = 10_000


def emit(text: str) -> bool:
    """Print a line of the command's result; whether there is still somebody to read it."""
    return _write(sys.stdout, text)


def note(text: str) -> None:
    """Tell the person something that is not the result."""
    _write(sys.stderr, text)


def emit_json(value: object) -> None:
    import msgspec

    encoded = msgspec.json.encode(value)
    if sys.stdout is not None and sys.stdout.isatty():
        encoded = msgspec.json.format(encoded, indent=2)
    emit(encoded.decode())


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> None:
    _emit(table(columns, rows, right))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> "Table":
    """Borderless columns; ``right`` names those whose cells align to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in right.split() else "left",
            overflow="fold",
            min_width=len(column),  # where room is short, what gives way is the widest cell
        )
    _add_rows(table, rows)
    return table


def emit_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and what they are, in two columns; an empty name continues the one above."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    _add_rows(table, facts)
    _emit(table)


def _add_rows(table: "Table", rows: Sequence[Sequence[str]]) -> None:
    from rich.text import Text

    from mlx_serve_common.logs import escape

    for row in rows:
        table.add_row(*(Text(escape(cell)) for cell in row))


def _emit(table: "Table") -> None:
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = _UNLIMITED_WIDTH
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        emit(line.rstrip())


def _write(stream: TextIO | None, text: str) -> bool:
    if stream is None:  # closed before we started
        return False
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError:
        # What is still buffered would fail again, loudly, when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return False
    return True
