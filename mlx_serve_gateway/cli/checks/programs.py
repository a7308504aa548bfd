"""Which ``mlx-serve`` a shell would run."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mlx_serve_gateway.cli.checks.subject import Subject
from mlx_serve_gateway.cli.checks.verdict import Verdict, ok, warn

_NAME = "mlx-serve"


def program(subject: Subject) -> Verdict:
    own = Path(sys.executable).with_name(_NAME)
    return judge_program(on_path(subject.environ.get("PATH", "")), own)


def on_path(path: str) -> list[Path]:
    """Every program of that name, in the order in which a shell looks."""
    places = (Path(folder, _NAME) for folder in path.split(os.pathsep) if folder)
    return [place for place in places if place.is_file() and os.access(place, os.X_OK)]


def judge_program(found: Sequence[Path], own: Path) -> Verdict:
    if not found:
        return ok(f"{own}, which is not on PATH")
    first = found[0]
    if _is_same(first, own):
        return ok(str(first))
    return warn(
        f"a shell runs {first}, and this is {own}",
        f"put {own.parent} first in PATH, or uninstall the other; the package mlx-serve on PyPI "
        "is another project",
    )


def _is_same(first: Path, own: Path) -> bool:
    # Package managers put a link on PATH; two programs are one when they end in one file.
    return first.resolve() == own.resolve()
