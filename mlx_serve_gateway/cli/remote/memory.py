"""``mlx-serve-ctl load``, ``unload``, ``pin`` and ``unpin``: which models are in memory."""

from typing import Any

import click

from mlx_serve_gateway.cli.exit_codes import ExitCode
from mlx_serve_gateway.cli.remote.target import chosen_gateway, gateway_options


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--keep-alive",
    metavar="DURATION",
    help="How long it then stays without being used, such as 30m or 2h; -1m: for ever.",
)
@gateway_options
def load(model: str, keep_alive: str | None, as_json: bool, **target: Any) -> int:
    """Load MODEL, and wait until it is there.

    The JSON is that of POST /admin/load. Exit codes: 0 it is loaded; 1 it cannot be; 3 nothing
    listens there; 75 not now.
    """
    order = {} if keep_alive is None else {"keep_alive": keep_alive}
    return _carried_out("load", model, as_json, target, order)


@click.command()
@click.argument("model", metavar="MODEL")
@gateway_options
def unload(model: str, as_json: bool, **target: Any) -> int:
    """Let MODEL leave the memory.

    It first finishes what was asked of it; a pinned model stays. Exit codes: 0 it leaves; 1 it is
    pinned, or there is no such model; 3 nothing listens there.
    """
    return _carried_out("unload", model, as_json, target, {})


@click.command()
@click.argument("model", metavar="MODEL")
@gateway_options
def pin(model: str, as_json: bool, **target: Any) -> int:
    """Load MODEL and keep it in memory.

    Until `unpin`, the end of the server, or a reload of a configuration that pins other models.
    Exit codes: 0 it is pinned; 1 there is no such model; 3 nothing listens there.
    """
    return _carried_out("pin", model, as_json, target, {})


@click.command()
@click.argument("model", metavar="MODEL")
@gateway_options
def unpin(model: str, as_json: bool, **target: Any) -> int:
    """Let MODEL be unloaded like any other.

    Exit codes: 0 it is not pinned; 1 there is no such model; 3 nothing listens there.
    """
    return _carried_out("unpin", model, as_json, target, {})


def _carried_out(
    what: str, model: str, as_json: bool, target: dict[str, Any], order: dict[str, str]
) -> int:
    import msgspec

    from mlx_serve_common.logs import escape
    from mlx_serve_gateway.cli.output import emit, emit_json
    from mlx_serve_gateway.cli.remote.asking import asked, understood

    class State(msgspec.Struct):
        model: str
        state: str
        pinned: bool

    gateway = chosen_gateway(**target)
    # The server has a limit of its own for loading.
    body = asked(gateway, "POST", f"/admin/{what}", {"model": model} | order, timeout_s=None)
    state = understood(gateway, body, State)
    if as_json:
        emit_json(msgspec.Raw(body))
    else:
        emit(escape(f"{state.model}: {state.state}{', pinned' if state.pinned else ''}"))
    return ExitCode.OK
