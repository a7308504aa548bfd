"""``mlx-serve verify``: are a model's answers right on this machine?"""

from pathlib import Path

import click

from mlx_serve_gateway.cli.completion import model_names
from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import ExitCode


@click.command()
@click.argument("model", metavar="MODEL", shell_complete=model_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def verify(model: str, as_json: bool, config_file: Path | None) -> int:
    """Check whether MODEL's files and answers are right.

    The outcome is kept in its manifest. Its files are those that were installed; its answers are
    finite, the same alone and in a batch, and, where sentence-transformers or transformers is
    installed beside mlx-serve, those of the reference.

    Exit codes: 0 passed; 1 failed, or there is no such model; 70 the job broke down.
    """
    from mlx_serve_common.models import read_manifest
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import load
    from mlx_serve_gateway.cli.exit_codes import CommandFailed
    from mlx_serve_gateway.cli.job import run_job
    from mlx_serve_gateway.cli.model_facts import verified_lines
    from mlx_serve_gateway.cli.output import emit_facts, emit_json
    from mlx_serve_gateway.cli.show import find_installed

    installed = find_installed(model, config_file)
    folder = installed.path
    failure = None
    try:
        custom_models = load(home(), config_file).config.chat.custom_models
        arguments = ["verify", f"--model-dir={folder}", f"--custom-models={custom_models}"]
        run_job(arguments, as_json=False)
    except CommandFailed as error:
        if error.code != ExitCode.FAILED:
            raise
        failure = error
    manifest = read_manifest(folder)
    if failure is not None and manifest.verified == installed.manifest.verified:
        raise failure  # there is no outcome: the files could not be verified at all
    if as_json:
        emit_json({"name": manifest.name, "verified": manifest.verified})
    else:
        emit_facts([("name", manifest.name), *verified_lines(manifest.verified)])
    if failure is not None:
        raise failure
    return ExitCode.OK
