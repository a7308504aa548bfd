"""The help of every command: whole sentences, in 80 columns."""

from collections.abc import Iterator

import click
import pytest

from mlx_serve_gateway.cli.ctl import mlx_serve_ctl
from mlx_serve_gateway.cli.llm import mlx_llm_server
from mlx_serve_gateway.cli.main import mlx_serve

Shown = tuple[str, click.Command, str]


def commands(command: click.Command, parent: click.Context | None = None) -> Iterator[Shown]:
    # As when it runs: what a command is first asked with is remembered.
    settings = {**command.context_settings, "terminal_width": 80, "max_content_width": 80}
    context = click.Context(command, parent, command.name, **settings)
    yield context.command_path, command, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, context)


ALL = [each for program in (mlx_serve, mlx_serve_ctl, mlx_llm_server) for each in commands(program)]


@pytest.mark.parametrize(("path", "command", "text"), ALL, ids=[path for path, _, _ in ALL])
def test_help(path: str, command: click.Command, text: str) -> None:
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert command.help, f"{path} does not say what it does"
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, f"{path} {option.opts[0]} does not say what it does"
    cut = [line.strip() for line in lines[1:] if line.endswith("...")]
    assert cut == [], "shorten the first sentence of these commands"
