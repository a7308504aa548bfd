"""What a command prints: data on stdout, everything else on stderr, tables that align.

Invariants: a reader who leaves (``| head -1``) costs the text, never the command; a result that a
full disk did not take is a failure of the command, but not of a server that runs; text from
elsewhere cannot steer the terminal; in a pipe nothing is cut or wrapped.
"""

import errno
import io
import os
import select
import stat
import sys
from collections.abc import Sequence
from threading import Thread
from typing import TYPE_CHECKING, TextIO

from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode

if TYPE_CHECKING:
    from rich.table import Table

_UNLIMITED_WIDTH = 10_000


def emit(text: str) -> bool:
    """Print a line of the command's result; whether there is still somebody to read it."""
    error = _write(sys.stdout, text)
    if error is not None and error.errno != errno.EPIPE:
        raise CommandFailed(f"the output could not be written: {error.strerror}")
    return error is None and sys.stdout is not None


def announce(text: str) -> None:
    """Print a line of what has happened already, whether it can be read or not."""
    _write(sys.stdout, text)


def note(text: str) -> None:
    """Tell the person something that is not the result."""
    _write(sys.stderr, text)


def end_with_reader() -> None:
    """End this process as soon as nobody reads its output, which it may have none of for long."""
    if sys.stdout is None or not _is_pipe(sys.stdout.fileno()):
        return
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)  # its end alone is told

    def wait() -> None:
        poller.poll()
        os._exit(ExitCode.OK)

    Thread(target=wait, daemon=True).start()


def _is_pipe(descriptor: int) -> bool:
    kind = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)


def emit_json(value: object) -> None:
    emit(json_text(value))


def json_text(value: object) -> str:
    """One line, or several for a person."""
    import msgspec

    encoded = msgspec.json.encode(value)
    if sys.stdout is not None and sys.stdout.isatty():
        encoded = msgspec.json.format(encoded, indent=2)
    return encoded.decode()


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

    # Not to stdout itself: also when it captures, rich writes there, and cannot stand a failure.
    there, lines = Console(file=sys.stdout), io.StringIO()
    console = Console(
        file=lines, highlight=False, emoji=False, markup=False, force_terminal=there.is_terminal
    )
    console.width = there.width if there.is_terminal else _UNLIMITED_WIDTH
    console.print(table)
    for line in lines.getvalue().splitlines():
        emit(line.rstrip())


def _write(stream: TextIO | None, text: str) -> OSError | None:
    if stream is None:  # closed before we started
        return None
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError as error:
        # What is still buffered would fail again, loudly, when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return error
    return None
