"""``mlx-serve pull``: models from the hub."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import CommandFailed
from mlx_serve_gateway.cli.models import KINDS

if TYPE_CHECKING:
    from mlx_serve_gateway.registry import Registry


@click.command()
@click.argument("model", metavar="MODEL[@REVISION]")
@click.option("--name", help="Name of the model here; else that of the repository.")
@click.option(
    "--type", "kind", type=click.Choice(KINDS), help="What the model is for; else its files say."
)
@click.option("--replace", is_flag=True, help="Also if it is installed: with what the hub has now.")
@click.option("--json", "as_json", is_flag=True, help="Print the progress as JSON lines.")
@config_option
def pull(
    model: str,
    name: str | None,
    kind: str | None,
    replace: bool,
    as_json: bool,
    config_file: Path | None,
) -> int:
    """Download MODEL and install it.

    MODEL is a repository of the hub, as ORG/NAME, or an alias of one. What an interrupted pull has
    downloaded is kept for a week, and the same pull continues with it. Several at once share one
    download. HF_TOKEN (for private and gated models), HF_ENDPOINT and HF_HUB_OFFLINE are honoured.

    Exit codes: 0 installed, or it was already; 1 it cannot be had, or cannot be served; 70 the job
    broke down; 130 interrupted.
    """
    import logging

    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import load
    from mlx_serve_gateway.cli.job import run_job
    from mlx_serve_gateway.registry import Registry
    from mlx_serve_gateway.worker_env import pull_environment

    # The registry would warn of damaged models, which are none of this command's business.
    logging.getLogger().addHandler(logging.NullHandler())
    config = load(home(), config_file).config
    registry = Registry(Path(config.models.directory), config.models.aliases)
    repository, installed_name = _meant(model, registry)
    name = name or installed_name
    arguments = [
        "pull",
        f"--repo={repository}",
        f"--models-dir={config.models.directory}",
        f"--custom-models={config.chat.custom_models}",
    ]
    arguments += [f"--name={name}"] if name is not None else []
    arguments += [f"--type={kind}"] if kind is not None else []
    arguments += ["--replace"] if replace else []
    return run_job(arguments, as_json=as_json, environment=pull_environment())


def _meant(model: str, registry: "Registry") -> tuple[str, str | None]:
    """A repository: by its name, by an alias, or as the source of what is installed by a name."""
    import contextlib

    from mlx_serve_common.errors import ServeError
    from mlx_serve_common.logs import escape
    from mlx_serve_gateway.references import read_reference

    if (reference := read_reference(registry.meant(model))) is not None:
        return str(reference), None
    with contextlib.suppress(ServeError):
        installed = registry.find(model)
        if (reference := read_reference(installed.manifest.source or "")) is not None:
            return str(reference), installed.name
    raise CommandFailed(f"{escape(model[:100])!r} is no repository of the hub; name it as ORG/NAME")
