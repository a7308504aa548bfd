"""Asks a server for everything at once for so many minutes, and fails if anything of it grows.

Memory is judged by its slope after a warm-up, as far as that is beyond the noise, which is told.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import click
import uvloop

from bench import models, subjects
from bench.http_client import RequestFailed
from bench.processes import end_when_told
from bench.soak.load import SoakLoad
from bench.soak.samples import Samples
from bench.soak.verdict import Line, lines, table

_MADE = models.ROOT / ".venv/share/bench"
_WARM_UP_SHARE, _MOST_WARM_UP_S = 1 / 3, 600.0
_SAMPLES = 200


@click.command(help=__doc__)
@click.argument("minutes", type=click.FloatRange(min=0.05))
@click.option("--quick", is_flag=True, help="Only see that everything runs, without any model.")
def main(minutes: float, quick: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="ms-", dir="/tmp") as folder:
        made = models.fake(Path(folder)) if quick else models.real(_MADE)
        found = uvloop.run(_soaked(made, Path(folder), 60 * minutes, tokens=8 if quick else 48))
    click.echo(table(found))
    if growing := [f"{line.measure} of {line.process}" for line in found if line.grows]:
        raise SystemExit(f"soak: grows: {', '.join(growing)}")


async def _soaked(made: models.Models, folder: Path, total_s: float, tokens: int) -> list[Line]:
    end_when_told()
    subject = subjects.ours(made, folder / "home")
    server, _ = await subject.started(folder)
    with server:
        warm_up_s = min(_MOST_WARM_UP_S, total_s * _WARM_UP_SHARE)
        load, samples = SoakLoad(server.client, made.marks, tokens), Samples(server)
        ends_at = perf_counter() + total_s
        click.echo(f"soak: {total_s:.0f} s, judged after {warm_up_s:.0f} s", err=True)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run(ends_at))
                tasks.create_task(samples.take_until(ends_at, total_s / _SAMPLES))
        except* RequestFailed as failures:
            raise SystemExit(f"soak: failed: {_first(failures)}") from None
    click.echo(f"soak: {load.answered} requests answered", err=True)
    return list(lines(samples.found, warm_up_s=warm_up_s))


def _first(failures: BaseException) -> BaseException:
    while isinstance(failures, BaseExceptionGroup):
        failures = failures.exceptions[0]
    return failures


if __name__ == "__main__":
    sys.exit(main())
