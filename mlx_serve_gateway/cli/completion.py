"""Completion in the shell: its script, and the names of models, from the models folder alone.

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


PROGRAMS = ("mlx-serve", "mlx-serve-ctl", "mlx-llm-server")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print what makes a shell complete our commands.

    Options and names of models are completed as well.

    \b
    bash, from 4.4 on, in ~/.bashrc:   eval "$(mlx-serve completion bash)"
    zsh, in ~/.zshrc after compinit:   eval "$(mlx-serve completion zsh)"
    fish, in config.fish:              mlx-serve completion fish | source
    """
    from click.shell_completion import get_completion_class

    from mlx_serve_gateway.cli.output import emit

    found = get_completion_class(shell)
    assert found is not None
    for program in PROGRAMS:
        variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
        emit(found(click.Command(program), {}, program, variable).source())
    return 0
