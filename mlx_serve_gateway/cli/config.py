"""``mlx-serve config``: a configuration to begin with, what is in force, and whether it is right.

Invariants: nothing of ours is overwritten; a key is never shown, whatever asks for it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.requested import Request, setting_options

if TYPE_CHECKING:
    from mlx_serve_common.config_layers import LoadedConfig

_HIDDEN = "(not shown)"


@click.group()
def config() -> None:
    """Write, show and check the configuration."""


@config.command()
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init(file: Path | None, as_json: bool) -> int:
    """Write a configuration to edit.

    Every key is in it, explained and commented out. FILE is config.yaml in the home folder unless
    given. Its schema goes beside it, so that editors complete and check the keys.

    Exit codes: 0 written; 1 there is a file already, which stays.
    """
    from mlx_serve_common.config_example import example_text
    from mlx_serve_common.config_layers import FILE_NAME
    from mlx_serve_common.config_schema import SCHEMA_FILE, schema_text
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import exit_code_of, make_folder, unusable
    from mlx_serve_gateway.cli.output import emit, emit_json

    target = file.expanduser() if file else make_folder(home()) / FILE_NAME
    schema = target.with_name(SCHEMA_FILE)
    try:
        _create(target, example_text())
        schema.write_text(schema_text(), "utf-8")
    except FileExistsError:
        raise CommandFailed(
            f"{target} exists and was left as it is; edit it, or move it away first"
        ) from None
    except OSError as error:
        raise CommandFailed(unusable(target, error), exit_code_of(error)) from None
    if as_json:
        emit_json({"file": str(target), "schema": str(schema)})
    else:
        emit(f"wrote {target}")
    return ExitCode.OK


@config.command()
@click.option("--origin", is_flag=True, help="Also tell where each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, origins included.")
@setting_options
def show(origin: bool, as_json: bool, **requested: Any) -> int:
    """Show the configuration that is in force.

    It is what `start` with the same flags and environment would use. An origin is a file with its
    line, an environment variable, a flag, or the default. Exit codes: 0 shown; 78 the
    configuration is wrong.
    """
    from mlx_serve_common.config_example import yaml_text
    from mlx_serve_gateway.cli.output import emit_json, emit_table

    loaded = Request(**requested).load()
    settings = _settings(loaded)
    if as_json:
        emit_json({"file": _told(loaded.file), "settings": settings})
    else:
        columns = ("KEY", "VALUE", "ORIGIN") if origin else ("KEY", "VALUE")
        rows = [(each["key"], yaml_text(each["value"]), each["origin"]) for each in settings]
        emit_table(columns, [row[: len(columns)] for row in rows])
    return ExitCode.OK


@config.command()
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def validate(file: Path | None, as_json: bool) -> int:
    """Check a configuration.

    FILE alone, or without FILE what `start` would read: config.yaml and the environment.

    Exit codes: 0 right, though there may be warnings; 78 wrong: FILE:LINE: KEY: what to do.
    """
    import os

    from mlx_serve_common.config_layers import load_config
    from mlx_serve_common.paths import home
    from mlx_serve_common.settings import ConfigError
    from mlx_serve_gateway.cli.output import emit, emit_json, note

    try:
        if file is None:
            loaded = load_config(home(), environ=os.environ)
        else:
            loaded = load_config(home(), environ={}, file=file.expanduser().absolute())
    except ConfigError as error:
        if as_json:
            place = {"source": error.source, "line": error.line, "key": error.key}
            emit_json({"valid": False, **place, "message": error.message, "warnings": []})
        raise CommandFailed(str(error), ExitCode.CONFIG) from None
    if as_json:
        emit_json({"valid": True, "file": _told(loaded.file), "warnings": loaded.warnings})
        return ExitCode.OK
    for warning in loaded.warnings:
        note(f"warning: {warning}")
    emit(f"{loaded.file} is valid" if loaded.file else "there is no config.yaml: all is default")
    return ExitCode.OK


@config.command()
def schema() -> int:
    """Print the JSON schema of config.yaml."""
    from mlx_serve_common.config_schema import schema_text
    from mlx_serve_gateway.cli.output import emit

    emit(schema_text().rstrip())
    return ExitCode.OK


def _create(path: Path, text: str) -> None:
    import os

    # Ours alone from the beginning: a key may be written into it.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _settings(loaded: "LoadedConfig") -> list[dict[str, Any]]:
    import msgspec

    from mlx_serve_common.reloading import value_of
    from mlx_serve_common.settings import KEYS

    settings = []
    for key in KEYS.values():
        value = msgspec.to_builtins(value_of(loaded.config, key.name))
        if key.is_secret and value is not None:
            value = _HIDDEN
        value = list(value) if isinstance(value, tuple) else value
        settings.append({"key": key.name, "value": value, "origin": loaded.origins[key.name]})
    return settings


def _told(file: Path | None) -> str | None:
    return None if file is None else str(file)
