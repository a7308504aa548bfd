"""Names of installed models for the shell to complete, from the models folder alone.

Invariants: completing never fails and never prints: whatever is wrong, there are no names.
"""

import os
from pathlib import Path

import click


def model_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The installed names that begin so and are not on the command line yet."""
    from mlx_serve_common.config_layers import load_config
    from mlx_serve_common.paths import home
    from mlx_serve_common.settings import ConfigError

    try:
        loaded = load_config(home(), environ=os.environ, file=context.params.get("config_file"))
        entries = sorted(Path(loaded.config.models.directory).iterdir())
    except (ConfigError, OSError):
        return []
    given = context.params.get("models") or ()
    return [
        entry.name
        for entry in entries
        if entry.name.startswith(incomplete)
        and entry.name not in given
        and not entry.name.startswith(".")
        and entry.is_dir()
    ]
