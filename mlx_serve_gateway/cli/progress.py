"""Drawing a job's events on stderr: one bar on a terminal, a line now and then elsewhere.

Invariants: nothing here ends a job, whatever its events hold.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlx_serve_common.events import JobEvent
from mlx_serve_common.logs import escape
from mlx_serve_gateway.cli.output import note
from mlx_serve_gateway.cli.units import duration_text, size_text

Draw = Callable[[JobEvent], None]

_STEP_PERCENT = 10
# In 80 columns, beside a bar and what stands behind it.
_BESIDE_AMOUNTS = 42
_BESIDE_NOTHING = 62


@contextmanager
def progress(*, quiet: bool) -> Iterator[Draw]:
    """What to call with each event; ``quiet`` when the events themselves are printed."""
    if quiet:
        yield lambda event: None
    elif sys.stderr is not None and sys.stderr.isatty():
        with _bar() as draw:
            yield draw
    else:
        yield Lines()


class Lines:
    """A line for each new stage, and for every tenth of it."""

    def __init__(self) -> None:
        self._stage = ""
        self._tenths = 0

    def __call__(self, event: JobEvent) -> None:
        if event.status is None:
            return
        stage = stage_text(event)
        tenths = 0
        if event.total:
            # Many small files in one stage: a line for each would say little.
            stage = event.status
            tenths = 100 * (event.completed or 0) // event.total // _STEP_PERCENT
        if (stage, tenths) == (self._stage, self._tenths):
            return
        self._stage, self._tenths = stage, tenths
        if tenths:
            note(f"{stage} {tenths * _STEP_PERCENT}% ({_amount(event)}{_speed(event)})")
        else:
            note(stage)


@contextmanager
def _bar() -> Iterator[Draw]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    console = Console(stderr=True, highlight=False, emoji=False, markup=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[amount]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None, amount="")

        def draw(event: JobEvent) -> None:
            if event.status == "success":
                bar.update(task, description="", visible=False)
                console.print(Text(stage_text(event)), soft_wrap=True)
            elif event.status is not None:
                bar.update(
                    task,
                    description=fitting(
                        stage_text(event), _BESIDE_AMOUNTS if event.total else _BESIDE_NOTHING
                    ),
                    total=event.total,
                    completed=event.completed or 0,
                    amount=_amount(event) + _speed(event),
                )

        yield draw


def stage_text(event: JobEvent) -> str:
    subject = event.detail or event.model or ""
    return escape(f"{event.status} {subject}".rstrip())


def fitting(text: str, columns: int) -> str:
    """Cut to so many columns, which some letters take two of; a name's end tells most."""
    from rich.cells import cell_len

    if cell_len(text) <= columns:
        return text
    stage, _, subject = text.partition(" ")
    room = columns - cell_len(f"{stage} …")
    while subject and cell_len(subject) > room:
        subject = subject[1:]
    return f"{stage} …{subject}"


def _amount(event: JobEvent) -> str:
    if not event.total:
        return ""
    return f"{size_text(event.completed or 0)}/{size_text(event.total)}"


def _speed(event: JobEvent) -> str:
    """The rate and the time that is left, if they are known."""
    if not event.rate or not event.total:
        return ""
    left_s = max(0, event.total - (event.completed or 0)) / event.rate
    left = f" {duration_text(left_s)}" if left_s >= 1 else ""
    return f" {size_text(event.rate)}/s{left}"
