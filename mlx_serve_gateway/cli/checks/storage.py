"""The home folder, the models in it, and what earlier work has left there."""

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from mlx_serve_common.logs import escape
from mlx_serve_common.store import abandoned_staging
from mlx_serve_gateway.cli.checks.subject import Subject
from mlx_serve_gateway.cli.checks.verdict import Verdict, fail, ok, warn
from mlx_serve_gateway.cli.units import size_text
from mlx_serve_gateway.registry import Registry

# A small encoder and the room its download asks for; and one that people mostly want.
_TOO_LITTLE_BYTES = 10**9
_LITTLE_BYTES = 10**10


def home(subject: Subject) -> Verdict:
    return judge_folder(subject.home, "set MLX_SERVE_HOME to a folder of yours")


def models_folder(subject: Subject) -> Verdict:
    return judge_folder(subject.models_dir, "set models.directory to a folder of yours")


def judge_folder(folder: Path, elsewhere: str) -> Verdict:
    place = _nearest(folder)
    if not place.is_dir():
        return fail(f"{folder}: {place} is not a folder", elsewhere)
    if not os.access(place, os.W_OK | os.X_OK):
        return fail(
            f"{folder}: {place} cannot be written to", f"{elsewhere}, or chmod u+wx {place}"
        )
    return ok(str(folder) if place == folder else f"{folder}, which does not exist yet")


def models(subject: Subject) -> Verdict:
    if not subject.models_dir.is_dir():
        return ok("none is installed yet (mlx-serve pull)")
    registry = Registry(subject.models_dir, subject.config.models.aliases)
    return judge_models(len(registry.models()), registry.broken())


def judge_models(count: int, broken: Sequence[tuple[str, str]]) -> Verdict:
    if broken:
        told = "; ".join(f"{escape(name)}: {escape(why)}" for name, why in broken)
        names = shlex.join(escape(name) for name, _ in broken)
        return fail(f"{len(broken)} damaged: {told}", f"mlx-serve remove {names}; then pull again")
    return ok(f"{count} installed" if count else "none is installed yet (mlx-serve pull)")


def space(subject: Subject) -> Verdict:
    return judge_space(shutil.disk_usage(_nearest(subject.models_dir)).free)


def judge_space(free: int) -> Verdict:
    told = f"{size_text(free)} free for models"
    remedy = "remove models (mlx-serve list, mlx-serve remove), or set models.directory elsewhere"
    if free < _TOO_LITTLE_BYTES:
        return fail(told, remedy)
    return warn(told, remedy) if free < _LITTLE_BYTES else ok(told)


def leftovers(subject: Subject) -> Verdict:
    left = abandoned_staging(subject.models_dir)
    if not left:
        return ok("nothing was left behind")
    return warn(
        f"{len(left)} folders of interrupted work, {size_text(sum(map(_size, left)))}, in "
        f"{left[0].parent}",
        "the next start, pull or import removes them",
    )


def _nearest(folder: Path) -> Path:
    """The folder itself, or what there is of the way to it."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
