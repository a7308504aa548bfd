"""``mlx-serve list`` and ``import``: the models on disk."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mlx_serve_gateway.http.ollama_entries import Tag

KINDS = ("embedding", "reranker", "chat")


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def list_models(as_json: bool, config_file: Path | None) -> int:
    """List the installed models.

    Folders that should be models and cannot be used are told on stderr. The JSON is that of
    GET /api/tags.
    """
    import logging

    from mlx_serve_common.logs import escape
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import load
    from mlx_serve_gateway.cli.output import emit_json, note
    from mlx_serve_gateway.http.ollama_entries import tag
    from mlx_serve_gateway.registry import Registry

    # What the registry would warn of is told below, in this command's own words.
    logging.getLogger().addHandler(logging.NullHandler())
    config = load(home(), config_file).config
    registry = Registry(Path(config.models.directory), config.models.aliases)
    models = [tag(model) for model in registry.models()]
    if as_json:
        emit_json({"models": models})
    elif models:
        emit_models(models)
    else:
        folder = config.models.directory
        note(f"no model is installed in {folder}; add one with `mlx-serve pull ORG/NAME`")
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
@click.option("--source-id", metavar="ORG/NAME", help="The repository that the folder came from.")
@click.option("--exist-ok", is_flag=True, help="Success, and nothing to do, if it is installed.")
@click.option(
    "--replace", is_flag=True, help="In place of the model of that name, if there is one."
)
@click.option("--json", "as_json", is_flag=True, help="Print the progress as JSON lines.")
@config_option
def import_model(
    directory: Path,
    name: str,
    kind: str | None,
    source_id: str | None,
    exist_ok: bool,
    replace: bool,
    as_json: bool,
    config_file: Path | None,
) -> int:
    """Install a model from the folder DIR.

    The folder is copied and left as it is.

    Exit codes: 0 installed; 1 the folder is no model that can be served, or the name is taken;
    70 the job broke down; 130 interrupted, nothing was installed.
    """
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import load
    from mlx_serve_gateway.cli.job import run_job

    if exist_ok and replace:
        raise click.UsageError("--exist-ok and --replace exclude each other")
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
    if source_id is not None:
        arguments.append(f"--source-id={_repository(source_id)}")
    if exist_ok:
        arguments.append("--exist-ok")
    if replace:
        arguments.append("--replace")
    return run_job(arguments, as_json=as_json)


def _repository(source_id: str) -> str:
    from mlx_serve_common.references import read_reference

    found = read_reference(source_id)
    if found is None or found.revision is not None:
        raise click.UsageError("--source-id is a repository's name: ORG/NAME")
    return found.repository


def emit_models(models: "Sequence[Tag]") -> None:
    from datetime import UTC, datetime

    from mlx_serve_gateway.cli.output import emit_table

    now = datetime.now(UTC)
    columns = ("NAME", "TYPE", "SIZE", "QUANT", "DIMS", "MODIFIED")
    emit_table(columns, [_row(model, now) for model in models], right="SIZE DIMS")


def _row(model: "Tag", now: "datetime") -> tuple[str, ...]:
    from mlx_serve_gateway.cli.units import age_text, size_text

    return (
        model.name,
        str(model.type),
        size_text(model.size),
        model.details.quantization_level or "-",
        "-" if model.dimensions is None else str(model.dimensions),
        age_text(model.modified_at, now),
    )
