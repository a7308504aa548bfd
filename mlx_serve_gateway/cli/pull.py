"""``mlx-serve pull``: models from the hub."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import CommandFailed
from mlx_serve_gateway.cli.models import KINDS

if TYPE_CHECKING:
    from mlx_serve_gateway.registry import Registry

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

_FORMS = ("4bit", "8bit", "mxfp4", "mxfp8", "nvfp4")
_DTYPES = ("float16", "bfloat16", "float32")

_WISHES = (
    click.option("--name", help="Name of the model here; else that of the repository."),
    click.option(
        "--type",
        "kind",
        type=click.Choice(KINDS),
        help="What the model is for; else its files say.",
    ),
    click.option(
        "--quantize",
        type=click.Choice(_FORMS),
        help="Install it quantized, as MODEL-4bit, MODEL-mxfp4, …; 8bit for small models.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(_DTYPES),
        help="Install it with weights of this type, as MODEL-fp16, MODEL-bf16 or MODEL-fp32.",
    ),
)


def wish_options(command: _Decorated) -> _Decorated:
    """What is wanted of a model, besides its name: ``name``, ``kind``, ``quantize``, ``dtype``."""
    for option in reversed(_WISHES):
        command = option(command)
    return command


@click.command()
@click.argument("model", metavar="MODEL[@REVISION]")
@wish_options
@click.option("--replace", is_flag=True, help="Also if it is installed: with what the hub has now.")
@click.option("--json", "as_json", is_flag=True, help="Print the progress as JSON lines.")
@config_option
def pull(
    model: str,
    name: str | None,
    kind: str | None,
    quantize: Any,
    dtype: Any,
    replace: bool,
    as_json: bool,
    config_file: Path | None,
) -> int:
    """Download MODEL and install it.

    MODEL is a repository of the hub, as ORG/NAME, or an alias of one. What an interrupted pull has
    downloaded is kept for a week, and the same pull continues with it. Several at once share one
    download. HF_TOKEN (for private and gated models), HF_ENDPOINT and HF_HUB_OFFLINE are honoured.

    With --quantize or --dtype only what the model is converted to is installed; a model that is
    installed already as it comes is not downloaded again, and stays.

    Exit codes: 0 installed, or it was already; 1 it cannot be had, or cannot be served; 70 the job
    broke down; 130 interrupted.
    """
    import logging

    from msgspec import structs

    from mlx_serve_common.conversion import conversion
    from mlx_serve_common.errors import ServeError
    from mlx_serve_common.logs import escape
    from mlx_serve_common.models import ModelKind
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import load
    from mlx_serve_gateway.cli.job import run_job
    from mlx_serve_gateway.orders import pull_of
    from mlx_serve_gateway.registry import Registry
    from mlx_serve_gateway.worker_env import pull_environment

    # The registry would warn of damaged models, which are none of this command's business.
    logging.getLogger().addHandler(logging.NullHandler())
    config = load(home(), config_file).config
    registry = Registry(Path(config.models.directory), config.models.aliases)
    order = pull_of(model, registry, conversion(quantize, dtype))
    if order is None:
        raise CommandFailed(
            f"{escape(model[:100])!r} is no repository of the hub; name it as ORG/NAME"
        )
    order = structs.replace(
        order,
        name=name or order.name,
        kind=None if kind is None else ModelKind(kind),
        replace=replace,
    )
    try:
        arguments = ["pull", *order.arguments(config)]
    except ServeError as error:
        raise CommandFailed(escape(error.message)) from None
    code = run_job(arguments, as_json=as_json, environment=pull_environment())
    if order.conversion is not None and not as_json:
        _tell(order.installed_name, registry)
    return code


def _tell(name: str, registry: "Registry") -> None:
    from mlx_serve_gateway.cli.quality import tell_of_conversion

    tell_of_conversion(registry.find(name).manifest)
