"""Measures this server beside others: alternating rounds in one run, medians and their ratios.

Ratios within a run mean something on any machine; absolute numbers only where nothing else runs.
"""

import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import uvloop

from bench import cold, libraries, models, subjects, switching
from bench.http_client import RequestFailed
from bench.in_process import InProcess
from bench.loads import all_loads
from bench.loads.load import QUICK, Found, Load, Row, Seat, Sizes
from bench.processes import end_when_told
from bench.report import LIMIT, Results, machine
from bench.subjects import OURS, Subject

_MADE = models.ROOT / ".venv/share/bench"
_COLD_ROUNDS = 3


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True, help="Rounds of every load.")
@click.option(
    "--peer",
    "given",
    multiple=True,
    metavar="NAME=VENV",
    help="sentence-transformers, infinity, mlx_vlm.server or mlx_lm.server, and the virtual"
    " environment that has it; repeatable.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="WORDS",
    help="Only loads whose name has these words; repeatable.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all of it here.")
@click.option("--quick", is_flag=True, help="Only see that everything runs, without any model.")
def main(
    rounds: int, given: tuple[str, ...], only: tuple[str, ...], json_file: Path | None, quick: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="ms-", dir="/tmp") as folder:
        made = models.fake(Path(folder)) if quick else models.real(_MADE)
        peers, absent = subjects.peers(given, made)
        for line in absent:
            _say(f"left out: {line}")
        sizes = QUICK if quick else Sizes()
        bench = Bench(made, sizes, peers, Path(folder), only, has_engine=not quick)
        try:
            uvloop.run(bench.run(1 if quick else rounds))
        finally:
            # Also where it is ended early: what was measured by then took minutes.
            _tell(bench, rounds, json_file)
    if bench.results.failures:
        raise SystemExit("bench: failed: " + "; ".join(bench.results.failures))


def _tell(bench: "Bench", rounds: int, json_file: Path | None) -> None:
    for name, fact in machine().items():
        _say(f"{name}: {fact}")
    _say(f"rounds: {rounds}; (xN): ours is N times better; {LIMIT}: the same work without a server")
    click.echo(bench.results.table(bench.columns))
    if json_file is not None:
        json_file.write_bytes(bench.results.json(bench.columns))


class Alone(NamedTuple):
    """What is measured with nothing beside it, one subject after the other."""

    rows: Sequence[Row]
    subjects: Sequence[Subject]
    measure: Callable[[Subject], Awaitable[Found]]
    most_rounds: int = sys.maxsize


class Bench:
    def __init__(
        self,
        made: models.Models,
        sizes: Sizes,
        peers: Sequence[Subject],
        folder: Path,
        only: Sequence[str],
        *,
        has_engine: bool,
    ) -> None:
        self._made = made
        self._folder = folder
        self._has_engine = has_engine

        def is_wanted(row: Row) -> bool:
            return not only or any(words in row.load for words in only)

        loads = all_loads(sizes, made.marks)
        self._loads = [each for each in loads if any(map(is_wanted, each.rows))]
        self._servers = [subjects.ours(made, folder / "home"), *peers]
        alone = self._measured_alone(sizes.switches)
        self._alone = [each for each in alone if any(map(is_wanted, each.rows))]
        rows = [row for load in self._loads for row in load.rows]
        rows += [row for each in self._alone for row in each.rows]
        if not rows:
            raise SystemExit(f"bench: no load has the words {', '.join(only)}")
        self.results = Results(rows)
        self.columns = [subject.name for subject in self._servers] + [subjects.ECHO, LIMIT]

    async def run(self, rounds: int) -> None:
        end_when_told()
        if self._loads:
            await self._run_loads(rounds)
        for each in self._alone:
            for _ in range(min(rounds, each.most_rounds)):
                await self._round_alone(each)

    def _measured_alone(self, switches: int) -> list[Alone]:
        folder, ours = self._folder, self._servers[:1]
        with_library = [each for each in self._servers if each.library is not None]
        embedders = [each for each in self._servers if each.names.embedder is not None]
        library = partial(libraries.without_server, folder=folder)
        start = partial(cold.cold_start, folder=folder)
        chat = partial(cold.cold_chat, folder=folder, marks=self._made.marks)
        switch = partial(switching.switching, folder=folder, count=switches)
        return [
            *([Alone(libraries.ROWS, with_library, library)] if self._has_engine else []),
            Alone(cold.ROWS, embedders, start, _COLD_ROUNDS),
            Alone(cold.CHAT_ROWS, ours, chat, _COLD_ROUNDS),
            Alone(switching.ROWS, ours, switch),
        ]

    async def _run_loads(self, rounds: int) -> None:
        """All servers are there for all of it, each idle while another is asked."""
        async with AsyncExitStack() as stack:
            servers = list(self._servers)
            echo = subjects.echo()
            if any(load.suits(echo.names) for load in self._loads):
                servers.append(echo)
            seats = {}
            for each in servers:
                if (seat := await self._seated(each, stack)) is not None:
                    seats[each.name] = seat
            engine = None
            if self._has_engine:
                engine = await stack.enter_async_context(InProcess(self._made))
            # Once for nothing: models are loaded, code is warm.
            for counted in (False, *[True] * rounds):
                for load in self._loads:
                    await self._round(load, seats, engine, counted=counted)

    async def _round_alone(self, alone: Alone) -> None:
        """Each in processes of its own, which may fail to start."""
        load = alone.rows[0].load
        for subject in alone.subjects:
            _say(load)
            try:
                self.results.add(subject.name, await alone.measure(subject))
            except (RequestFailed, RuntimeError, OSError, EOFError) as error:
                self.results.failures.append(f"{subject.name}, {load}: {error}")

    async def _seated(self, subject: Subject, stack: AsyncExitStack) -> Seat | None:
        """None for one that does not start: the others are measured without it."""
        _say(f"starting {subject.name}")
        try:
            server, _ = await subject.started(self._folder)
        except (RuntimeError, OSError) as error:
            self.results.failures.append(f"{subject.name}: {error}")
            return None
        return Seat(subject.names, stack.enter_context(server))

    async def _round(
        self, load: Load, seats: dict[str, Seat], engine: InProcess | None, *, counted: bool
    ) -> None:
        if counted:
            _say(load.rows[0].load)

        def add(subject: str, found: Found) -> None:
            if counted:
                self.results.add(subject, found)

        for name, seat in seats.items():
            if not load.suits(seat.names):
                continue
            try:
                add(name, await load.serve(seat))
            except (RequestFailed, OSError, EOFError) as error:
                self.results.failures.append(f"{name}, {load.rows[0].load}: {error}")
            if name == OURS and engine is not None:
                # Right after ours: when all peers have had their minutes, the machine may do less.
                add(LIMIT, await load.compute(engine))


def _say(line: str) -> None:
    click.echo(f"bench: {line}", err=True)


if __name__ == "__main__":
    sys.exit(main())
