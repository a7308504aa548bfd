"""``mlx-serve-ctl status``, ``ps`` and ``models``."""

from typing import Any

import click

from mlx_serve_gateway.cli.exit_codes import ExitCode
from mlx_serve_gateway.cli.remote.target import KEY_VARIABLE, chosen_gateway, gateway_options


@click.command()
@gateway_options
def status(as_json: bool, **target: Any) -> int:
    """Show how the gateway is.

    The JSON is that of GET /health/detail, or of GET /health where the rest is kept back. Exit
    codes: 0 it serves; 1 it does not answer as it should; 3 nothing listens there.
    """
    from mlx_serve_gateway.cli.gateway_client import health_detail, read_report
    from mlx_serve_gateway.cli.gateway_connection import NoAnswer
    from mlx_serve_gateway.cli.output import emit_json, note
    from mlx_serve_gateway.cli.remote.asking import unanswered
    from mlx_serve_gateway.cli.status import show_health

    gateway = chosen_gateway(**target)
    try:
        said = health_detail(gateway.url, key=gateway.key)
    except NoAnswer as silence:
        raise unanswered(gateway, silence) from None
    report = read_report(said)
    if as_json:
        emit_json(said)
    else:
        show_health(report, gateway.url)
    if report.workers is None:
        note(f"it tells more to who sends its admin key: {KEY_VARIABLE} or --key-file FILE")
    return ExitCode.OK


@click.command()
@gateway_options
def ps(as_json: bool, **target: Any) -> int:
    """List the loaded models.

    As `mlx-serve ps`; the JSON is that of GET /api/ps. Exit codes: 0 listed, also if there is none;
    1 refused, or it does not answer as it should; 3 nothing listens there.
    """
    import msgspec

    from mlx_serve_gateway.cli.gateway_client import HealthReport
    from mlx_serve_gateway.cli.output import emit_json, emit_table, note
    from mlx_serve_gateway.cli.ps import COLUMNS, RIGHT, row
    from mlx_serve_gateway.cli.remote.asking import asked, understood

    gateway = chosen_gateway(**target)
    if as_json:
        body = asked(gateway, "GET", "/api/ps")
        emit_json(understood(gateway, body, msgspec.Raw))
        return ExitCode.OK
    report = understood(gateway, asked(gateway, "GET", "/health/detail"), HealthReport)
    if workers := report.workers:
        emit_table(COLUMNS, [row(worker) for worker in workers], right=RIGHT)
    else:
        note("no model is loaded")
    return ExitCode.OK


@click.command()
@gateway_options
def models(as_json: bool, **target: Any) -> int:
    """List the models that are installed there.

    As `mlx-serve list`; the JSON is that of GET /api/tags. Exit codes: as of `ps`.
    """
    import msgspec

    from mlx_serve_gateway.cli.models import emit_models
    from mlx_serve_gateway.cli.output import emit_json, note
    from mlx_serve_gateway.cli.remote.asking import asked, understood
    from mlx_serve_gateway.http.ollama_entries import Tag

    class Tags(msgspec.Struct):
        models: list[Tag]

    gateway = chosen_gateway(**target)
    body = asked(gateway, "GET", "/api/tags")
    tags = understood(gateway, body, Tags).models
    if as_json:
        emit_json(msgspec.Raw(body))
    elif tags:
        emit_models(tags)
    else:
        note("no model is installed there; `mlx-serve-ctl pull ORG/NAME` installs one")
    return ExitCode.OK
