"""``mlx-serve quantize``: a smaller, second form of an installed model."""

from pathlib import Path

import click

from mlx_serve_gateway.cli.completion import model_names
from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import CommandFailed

_MODES = ("affine", "mxfp4", "mxfp8", "nvfp4")


@click.command()
@click.argument("model", metavar="MODEL", shell_complete=model_names)
@click.option("--bits", type=click.Choice(("4", "8")), help="Bits per weight; 8 for small models.")
@click.option(
    "--mode", type=click.Choice(_MODES), default="affine", show_default=True,
    help="How weights are written; all but affine have their own bits.",
)  # fmt: skip
@click.option(
    "--group-size",
    type=click.Choice(("32", "64", "128")),
    help="Weights that share a scale, for affine; 64 unless given.",
)
@click.option("--name", help="Name of the new model; else MODEL-4bit, MODEL-8bit, MODEL-mxfp4, …")
@click.option("--json", "as_json", is_flag=True, help="Print the progress as JSON lines.")
@config_option
def quantize(
    model: str,
    bits: str | None,
    mode: str,
    group_size: str | None,
    name: str | None,
    as_json: bool,
    config_file: Path | None,
) -> int:
    """Make a second, quantized model of MODEL, which stays as it is.

    Pooling, prompts and everything else are kept; how far the answers are from the original's is
    measured, printed, and shown by ``mlx-serve show``.

    Exit codes: 0 installed; 1 MODEL cannot be quantized so, or the name is taken; 70 the job broke
    down; 130 interrupted, nothing was installed.
    """
    from mlx_serve_common.conversion import Conversion, scheme
    from mlx_serve_common.errors import ServeError
    from mlx_serve_common.logs import escape
    from mlx_serve_common.models import read_manifest
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import load
    from mlx_serve_gateway.cli.job import run_job
    from mlx_serve_gateway.cli.quality import tell_of_conversion
    from mlx_serve_gateway.cli.show import find_installed
    from mlx_serve_gateway.orders import Quantize

    if mode == "affine" and bits is None:
        raise click.UsageError("--bits 4 or --bits 8 is needed (8 is the recommendation)")
    installed = find_installed(model, config_file)
    config = load(home(), config_file).config
    try:
        wanted = scheme(mode, _number(bits), _number(group_size))
        order = Quantize(model=installed, conversion=Conversion(wanted), name=name)
        arguments = ["quantize", *order.arguments(config)]
    except ServeError as error:
        raise CommandFailed(escape(error.message)) from None
    code = run_job(arguments, as_json=as_json)
    if not as_json:
        tell_of_conversion(read_manifest(installed.path.parent / order.installed_name))
    return code


def _number(given: str | None) -> int | None:
    return None if given is None else int(given)
