"""The configuration: file, environment, and what is doubtful about them."""

from mlx_serve_common.config_layers import FILE_NAME
from mlx_serve_common.settings import ConfigError
from mlx_serve_gateway.cli.checks.subject import Subject
from mlx_serve_gateway.cli.checks.verdict import Verdict, fail, ok, warn


def configuration(subject: Subject) -> Verdict:
    loaded = subject.loaded
    if isinstance(loaded, ConfigError):
        return fail(str(loaded), "correct it, then: mlx-serve config validate")
    if loaded.warnings:
        return warn("; ".join(loaded.warnings), "change it as it says")
    return ok(str(loaded.file or f"no {FILE_NAME}, all is default (mlx-serve config init)"))
