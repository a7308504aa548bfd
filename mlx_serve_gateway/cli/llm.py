"""The command ``mlx-llm-server``: the same daemon as ``mlx-serve start``, preset for chat."""

from pathlib import Path
from typing import Any

import click

from mlx_serve_gateway.cli.entry import run
from mlx_serve_gateway.cli.serve import run_start, start_options
from mlx_serve_gateway.cli.version import version_option

PORT = 9044
MODEL = "mlx-community/Qwen3-8B-4bit"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@start_options
@version_option
def mlx_llm_server(**options: Any) -> int:
    """Start a chat server: `mlx-serve start` on port 9044, with a model for every chat request.

    That model is --model-name, else chat.default_model of the configuration, else
    mlx-community/Qwen3-8B-4bit; the first request that needs it downloads it, and
    `curl http://127.0.0.1:9044/api/jobs` shows how far that is. Stop the server with
    `mlx-serve stop --port 9044`.
    """
    options["model_name"] = options["model_name"] or _preset_model(options["config_file"])
    return run_start(**options)


def _preset_model(config_file: Path | None) -> str | None:
    """None where the configuration has one."""
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import load

    return None if load(home(), config_file).config.chat.default_model else MODEL


def main() -> None:
    run(mlx_llm_server, "mlx-llm-server", default_map={"port": PORT})


if __name__ == "__main__":
    main()
