"""``mlx-serve-ctl drain`` and ``reload``: the server as a whole."""

from typing import Any

import click

from mlx_serve_gateway.cli.exit_codes import ExitCode
from mlx_serve_gateway.cli.remote.target import chosen_gateway, gateway_options


@click.command()
@gateway_options
def drain(as_json: bool, **target: Any) -> int:
    """Have the server finish what it does, and end.

    New requests are refused from now on; `status` shows when it has ended. A service that is to
    run is started again by its manager. Exit codes: 0 it drains; 1 refused; 3 nothing listens
    there.
    """
    import msgspec

    from mlx_serve_gateway.cli.output import emit, emit_json
    from mlx_serve_gateway.cli.remote.asking import asked, understood

    gateway = chosen_gateway(**target)
    said = understood(gateway, asked(gateway, "POST", "/admin/drain"), msgspec.Raw)
    if as_json:
        emit_json(said)
    else:
        emit(f"{gateway.url} finishes what it does, and ends")
    return ExitCode.OK


@click.command()
@gateway_options
def reload(as_json: bool, **target: Any) -> int:
    """Have the server read its configuration again.

    As a SIGHUP does. Prints each key that has its new value now, and each that needs a restart for
    it. Exit codes: 0 read; 1 it is wrong, and nothing has changed; 3 nothing listens there.
    """
    import msgspec

    from mlx_serve_gateway.cli.output import emit, emit_json
    from mlx_serve_gateway.cli.remote.asking import asked, understood

    class Reloaded(msgspec.Struct):
        applied: list[str]
        needs_restart: list[str]

    gateway = chosen_gateway(**target)
    body = asked(gateway, "POST", "/admin/reload", timeout_s=60)
    reloaded = understood(gateway, body, Reloaded)
    if as_json:
        emit_json(msgspec.Raw(body))
        return ExitCode.OK
    for key in reloaded.applied:
        emit(f"applied: {key}")
    for key in reloaded.needs_restart:
        emit(f"needs a restart: {key}")
    if not reloaded.applied and not reloaded.needs_restart:
        emit("nothing has changed")
    return ExitCode.OK
