"""What ``--version`` says: distribution, version, Python, and where this copy lies."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mlx_serve_common import DISTRIBUTION, VERSION
from mlx_serve_gateway.cli.output import emit

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def version_option(command: _Decorated) -> _Decorated:
    """Adds ``--version``."""
    option = click.option(
        "--version",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_show,
        help="Show version, Python and place, and exit.",
    )
    return option(command)


def _show(context: click.Context, _option: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    import platform
    from pathlib import Path

    place = Path(__file__).parent.parent
    emit(f"{DISTRIBUTION} {VERSION} (Python {platform.python_version()}, {place})")
    context.exit()
