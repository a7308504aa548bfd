"""A gateway as a process of its own: ``python -m tests.process.serving CONFIG HOME INSTANCE``.

CONFIG is JSON; the port that was taken is printed as soon as requests are answered. The module
named by ``STAND_IN_JOB`` is run for a job; the method named by ``BROKEN`` raises.
"""

import importlib
import os
import sys
from pathlib import Path

import msgspec

from mlx_serve_common import logs
from mlx_serve_common.config import Config
from mlx_serve_common.settings import ConfigError
from mlx_serve_gateway import composition, server

if broken := os.environ.get("BROKEN"):  # MODULE:CLASS:METHOD
    module, owner, method = broken.split(":")
    setattr(getattr(importlib.import_module(module), owner), method, lambda *arguments: 1 / 0)

if stand_in := os.environ.get("STAND_IN_JOB"):
    setattr(composition, "PROGRAM", (sys.executable, "-P", "-m", stand_in))  # noqa: B010


def main() -> int:
    config = msgspec.json.decode(sys.argv[1], type=Config)
    logs.configure(config.logging.level, config.logging.format)
    listeners = server.bind(config.server.host, config.server.port)
    port = listeners[0].getsockname()[1]
    return server.run(
        config,
        home=Path(sys.argv[2]),
        listeners=listeners,
        instance=sys.argv[3],
        on_ready=lambda: _announce(port),
        read_config=lambda: _changed(Path(sys.argv[2])) or config,
        own_key=os.environ.get("OWN_KEY"),
    )


def _changed(home: Path) -> Config | None:
    """What a test has put there for a reload."""
    file = home / "reload.json"
    if not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Config)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from None


def _announce(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
