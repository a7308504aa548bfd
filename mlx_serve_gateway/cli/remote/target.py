"""Which gateway is meant, and the key that it wants.

A server of this home has left a key for its account, so that nothing has to be set up for it.
Invariants: a key goes to the gateway that it was given, configured or left for, and nowhere else;
no message holds one.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlx_serve_gateway.cli.configuration import config_option, load
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.output import note

if TYPE_CHECKING:
    from mlx_serve_gateway.cli.gateway_connection import Gateway

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

KEY_VARIABLE = "MLX_SERVE_ADMIN_KEY"
_LONGEST_FILE = 4096

_OPTIONS = (
    click.option(
        "--url", metavar="URL", help="The gateway; else this machine's, on the configured port."
    ),
    click.option(
        "--key",
        metavar="KEY",
        help=f"Its admin key. Others see it in the list of processes: rather use {KEY_VARIABLE} "
        "or --key-file.",
    ),
    click.option(
        "--key-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A file that holds nothing but the key.",
    ),
    config_option,
)


def target_options(command: _Decorated) -> _Decorated:
    """Adds what ``chosen_gateway`` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def gateway_options(command: _Decorated) -> _Decorated:
    """The same, and ``as_json``."""
    with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return target_options(with_json(command))


def chosen_gateway(
    *, url: str | None, key: str | None, key_file: Path | None, config_file: Path | None
) -> "Gateway":
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.addresses import local_url
    from mlx_serve_gateway.cli.gateway_connection import Gateway, NoAnswer, unconnected
    from mlx_serve_gateway.cli.instances import own_gateway

    if key is not None and key_file is not None:
        raise click.UsageError("--key and --key-file exclude each other")
    given = _read(key_file) if key_file is not None else key or os.environ.get(KEY_VARIABLE)
    if given:
        given = _checked(given)
    if url is not None:
        try:
            unconnected(url)
        except NoAnswer as wrong:
            # Not repeated: there may be a password in it.
            raise CommandFailed(f"--url {wrong}", ExitCode.USAGE) from None
        return Gateway(url.rstrip("/"), given or None)
    here = home()
    server = load(here, config_file).config.server
    own = own_gateway(here, server.port)
    if own is not None:
        return Gateway(own.url, given or own.key)
    return Gateway(local_url(server.host, server.port), given or server.admin_key)


def _read(file: Path) -> str:
    try:
        with file.expanduser().open(encoding="utf-8") as opened:
            if os.fstat(opened.fileno()).st_mode & 0o077:
                note(f"warning: others can read or change the key in {file}: chmod 600 {file}")
            return opened.read(_LONGEST_FILE).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CommandFailed(f"--key-file {file}: {why}", ExitCode.USAGE) from None


def _checked(key: str) -> str:
    import msgspec

    from mlx_serve_common.config import AdminKey

    try:
        msgspec.convert(key, AdminKey)
    except msgspec.ValidationError:
        raise CommandFailed(
            "an admin key has 8 to 512 printable characters and no space; the one given is none",
            ExitCode.USAGE,
        ) from None
    return key
