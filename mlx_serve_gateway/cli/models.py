"""``mlx-serve list`` and ``import``: the models on disk."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from datetime import datetime

    from mlx_serve_common.models import InstalledModel, Manifest

KINDS = ("embedding", "reranker", "chat")


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def list_models(as_json: bool, config_file: Path | None) -> int:
    """List the installed models.

    Folders that should be models and cannot be used are told on stderr.
    """
    import logging
    from datetime import UTC, datetime

    from mlx_serve_common.logs import escape
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import load
    from mlx_serve_gateway.cli.output import emit_json, emit_table, note
    from mlx_serve_gateway.registry import Registry

    # What the registry would warn of is told below, in this command's own words.
    logging.getLogger().addHandler(logging.NullHandler())
    config = load(home(), config_file).config
    registry = Registry(Path(config.models.directory), config.models.aliases)
    models = registry.models()
    if as_json:
        emit_json({"models": [_facts(model) for model in models]})
    elif models:
        now = datetime.now(UTC)
        columns = ("NAME", "TYPE", "SIZE", "QUANT", "DIMS", "MODIFIED")
        emit_table(columns, [_row(model, now) for model in models], right="SIZE DIMS")
    else:
        note(f"no model is installed in {config.models.directory}; add one with `mlx-serve import`")
    for folder, why in registry.broken():
        note(f"broken: {escape(folder)}: {escape(why)}")
    return ExitCode.OK


@click.command("import")
@click.argument(
    "directory",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
)
@click.option("--name", required=True, help="Name of the model; it must not be taken.")
@click.option(
    "--type", "kind", type=click.Choice(KINDS), help="What the model is for; else its files say."
)
@click.option("--exist-ok", is_flag=True, help="Success, and nothing to do, if it is installed.")
@click.option("--json", "as_json", is_flag=True, help="Print the progress as JSON lines.")
@config_option
def import_model(
    directory: Path,
    name: str,
    kind: str | None,
    exist_ok: bool,
    as_json: bool,
    config_file: Path | None,
) -> int:
    """Install a model from the folder DIR, which is copied and left as it is.

    Exit codes: 0 installed; 1 the folder is no model that can be served, or the name is taken;
    70 the job broke down; 130 interrupted, nothing was installed.
    """
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import load
    from mlx_serve_gateway.cli.job import run_job

    config = load(home(), config_file).config
    arguments = [
        "import",
        f"--source={directory}",
        f"--models-dir={config.models.directory}",
        f"--name={name}",
        f"--custom-models={config.chat.custom_models}",
    ]
    if kind is not None:
        arguments.append(f"--type={kind}")
    if exist_ok:
        arguments.append("--exist-ok")
    return run_job(arguments, as_json=as_json)


def _row(model: "InstalledModel", now: "datetime") -> tuple[str, ...]:
    from mlx_serve_gateway.cli.units import age_text, size_text

    manifest = model.manifest
    return (
        manifest.name,
        str(manifest.kind),
        size_text(manifest.size_bytes),
        _precision(manifest),
        "-" if manifest.dimensions is None else str(manifest.dimensions),
        age_text(manifest.created_at, now),
    )


def _precision(manifest: "Manifest") -> str:
    scheme = manifest.quantization
    if scheme is None:
        return manifest.dtype or "-"
    mode = scheme.get("mode", "affine")
    return f"{scheme.get('bits')}bit" if mode == "affine" else str(mode)


def _facts(model: "InstalledModel") -> dict[str, object]:
    manifest = model.manifest
    return {
        "name": manifest.name,
        "type": manifest.kind,
        "size_bytes": manifest.size_bytes,
        "quantization": manifest.quantization,
        "dtype": manifest.dtype,
        "dimensions": manifest.dimensions,
        "max_tokens": manifest.max_tokens,
        "architecture": manifest.architecture,
        "source": manifest.source,
        "revision": manifest.revision,
        "modified_at": manifest.created_at,
        "path": str(model.path),
    }
