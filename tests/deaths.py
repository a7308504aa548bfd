"""Jobs that are killed, as by a power cut: at a point of their program, or at any moment."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from time import sleep

import pytest

_DYING = """
import importlib, os, signal, sys

from mlx_serve_worker import job

holder, name, moment = sys.argv.pop(1).split(":")
module, _, owner = holder.partition("/")
target = importlib.import_module(module)
target = getattr(target, owner) if owner else target
original = getattr(target, name)

def dying(*arguments, **options):
    if moment == "after":
        original(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(target, name, dying)
job.main()
"""

KILLS = [6, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
"""How often a test kills at a random moment: in every run, and once in a while."""


def points(*functions: str) -> list[str]:
    """Before and after each of ``MODULE[/CLASS]:FUNCTION``."""
    return [f"{function}:{moment}" for function in functions for moment in ("before", "after")]


def dying_at(point: str, job: Sequence[str]) -> list[str]:
    """``job``, which is ``python -P -m mlx_serve_worker.job …``, killed when it comes there."""
    program, *_ = job
    return [program, "-c", _DYING, point, *job[4:]]


def delays(count: int, longest_s: float, seed: int = 2026) -> Iterator[float]:
    """Moments to kill at, the same in every run."""
    chance = Random(seed)
    for _ in range(count):
        yield chance.uniform(0, longest_s)


def kill_after(delay_s: float, job: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether the job was still at it."""
    nothing = subprocess.DEVNULL
    with subprocess.Popen(job, env=env, stdout=nothing, stderr=nothing) as process:
        sleep(delay_s)  # the moment is what is tested
        was_at_it = process.poll() is None
        process.kill()
    return was_at_it
