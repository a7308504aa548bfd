"""``mlx-serve-ctl pull`` and ``remove``: which models are on the disk."""

from typing import TYPE_CHECKING, Any

import click

from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.pull import wish_options
from mlx_serve_gateway.cli.remote.target import chosen_gateway, gateway_options

if TYPE_CHECKING:
    from mlx_serve_gateway.cli.gateway_connection import Gateway
    from mlx_serve_gateway.cli.remote.pull_lines import PullLine


@click.command()
@click.argument("model", metavar="MODEL[@REVISION]")
@wish_options
@gateway_options
def pull(
    model: str,
    name: str | None,
    kind: str | None,
    quantize: str | None,
    dtype: str | None,
    as_json: bool,
    **target: Any,
) -> int:
    """Have the server download MODEL and install it.

    It goes on with that when this command is interrupted; the same command watches it again. The
    JSON lines are those of POST /api/pull. Exit codes: 0 installed, or it was already; 1 it cannot
    be had, or cannot be served; 3 nothing listens there; 130 interrupted.
    """
    from mlx_serve_gateway.cli.output import note

    order = {
        "model": model,
        "install_as": name,
        "type": kind,
        "quantize": quantize,
        "dtype": dtype,
    }
    gateway = chosen_gateway(**target)
    try:
        last = _follow(gateway, {key: value for key, value in order.items() if value}, as_json)
    except KeyboardInterrupt:
        note("interrupted; the server goes on with it")
        raise
    if last is None or last.status != "success":
        raise CommandFailed(f"{gateway.url}: the connection was lost; the server may go on with it")
    return ExitCode.OK


def _follow(gateway: "Gateway", order: dict[str, str], as_json: bool) -> "PullLine | None":
    """Draw what the server tells; its last line."""
    from time import monotonic

    import msgspec

    from mlx_serve_common.logs import escape
    from mlx_serve_gateway.cli.gateway_connection import Answer, NoAnswer, listening
    from mlx_serve_gateway.cli.output import emit
    from mlx_serve_gateway.cli.progress import progress
    from mlx_serve_gateway.cli.remote.asking import refused, unanswered, understood
    from mlx_serve_gateway.cli.remote.pull_lines import PullLine, PullLines

    told = PullLines(order["model"])
    last = None
    body = msgspec.json.encode(order)
    try:
        with listening(gateway, "POST", "/api/pull", body) as (status, lines):
            if status != 200:
                raise refused(gateway, Answer(status, b"\n".join(lines)))
            with progress(quiet=as_json) as draw:
                for line in lines:
                    last = understood(gateway, line, PullLine)
                    if as_json:
                        emit(line.decode())
                    draw(told.event(last, monotonic()))
    except NoAnswer as silence:
        raise unanswered(gateway, silence) from None
    if last is not None and last.error is not None:
        code = ExitCode.INTERNAL if last.code == "internal_error" else ExitCode.FAILED
        raise CommandFailed(f"{gateway.url}: {escape(last.error)}", code)
    return last


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@gateway_options
def remove(models: tuple[str, ...], as_json: bool, **target: Any) -> int:
    """Remove models from the server's disk.

    It first finishes what was asked of them. Exit codes: 0 all are removed; 1 one could not be, or
    there is no such model; 3 nothing listens there.
    """
    from mlx_serve_common.logs import escape
    from mlx_serve_gateway.cli.gateway_client import delete_model
    from mlx_serve_gateway.cli.gateway_connection import NoAnswer
    from mlx_serve_gateway.cli.output import emit_json, note
    from mlx_serve_gateway.cli.remote.asking import refused, unanswered

    gateway = chosen_gateway(**target)
    removed: list[str] = []
    failed: dict[str, str] = {}
    for model in dict.fromkeys(models):
        try:
            answer = delete_model(gateway, model)
        except NoAnswer as silence:
            raise unanswered(gateway, silence) from None
        if answer.status == 200:
            removed.append(model)
            if not as_json:
                note(f"removed {escape(model)}")
        else:
            failed[model] = refused(gateway, answer).message
            note(f"mlx-serve-ctl: {failed[model]}")
    if as_json:
        emit_json({"removed": removed, "failed": failed})
    return ExitCode.FAILED if failed else ExitCode.OK
