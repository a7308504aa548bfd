"""Asking a gateway for something, and what a refusal means for the person who asked.

Invariants: a failure names the gateway and the next step.
"""

from typing import TYPE_CHECKING, TypeVar

from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode

if TYPE_CHECKING:
    from mlx_serve_gateway.cli.gateway_connection import Answer, Gateway, NoAnswer

T = TypeVar("T")

# Trying again later may help.
_PASSING = {429, 503, 504}


def asked(
    gateway: "Gateway",
    method: str,
    path: str,
    body: object = None,
    *,
    timeout_s: float | None = 10.0,
) -> bytes:
    """What the gateway answers, or CommandFailed."""
    import msgspec

    from mlx_serve_gateway.cli.gateway_connection import NoAnswer, ask

    content = None if body is None else msgspec.json.encode(body)
    try:
        answer = ask(gateway, method, path, content, timeout_s=timeout_s)
    except NoAnswer as silence:
        raise unanswered(gateway, silence) from None
    if not 200 <= answer.status < 300:
        raise refused(gateway, answer)
    return answer.body


def understood(gateway: "Gateway", body: bytes, type: type[T]) -> T:
    """The answer as what it should be, or CommandFailed."""
    import msgspec

    from mlx_serve_common.undecodable import UNDECODABLE

    try:
        return msgspec.json.decode(body, type=type)
    except UNDECODABLE:
        said = f"{gateway.url}: what answers there is no mlx-serve, or one of another version"
        raise CommandFailed(said) from None


def unanswered(gateway: "Gateway", silence: "NoAnswer") -> CommandFailed:
    code = ExitCode.NOT_RUNNING if silence.refused else ExitCode.FAILED
    return CommandFailed(f"{gateway.url}: {silence}", code)


def refused(gateway: "Gateway", answer: "Answer") -> CommandFailed:
    from mlx_serve_common.logs import escape
    from mlx_serve_gateway.cli.gateway_client import read_refusal

    refusal = read_refusal(answer.body)
    said = refusal.message[:1000] if refusal.code else f"status {answer.status}, no mlx-serve's"
    step = _next_step(refusal.code, has_key=gateway.key is not None)
    code = ExitCode.TEMPORARY if answer.status in _PASSING else ExitCode.FAILED
    return CommandFailed(f"{gateway.url}: {escape(said)}{step}", code)


def _next_step(code: str, *, has_key: bool) -> str:
    match code:
        case "control_plane_local_only" | "invalid_admin_key" if not has_key:
            return "; mlx-serve-ctl sends the key of MLX_SERVE_ADMIN_KEY or --key-file FILE"
        case "invalid_admin_key":
            return "; the right one is server.admin_key in the server's configuration"
        case "host_not_allowed":
            return "; use the server's address, or add the name to its server.allowed_hosts"
        case "unknown_url":
            return "; the gateway is older than this command, or that is switched off there"
        case _:
            return ""
