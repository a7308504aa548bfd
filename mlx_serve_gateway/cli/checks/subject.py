"""What the checks are about: this machine, this person's home folder and its configuration."""

import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import msgspec

from mlx_serve_common.config import Config
from mlx_serve_common.config_layers import LoadedConfig, default_config, load_config
from mlx_serve_common.device import DeviceReport
from mlx_serve_common.settings import ConfigError
from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_gateway.worker_env import worker_environment

_DEVICE_PROGRAM = (sys.executable, "-P", "-m", "mlx_serve_worker.device_report")
# Importing MLX for the first time, on a slow disk.
_DEVICE_S = 60.0


class NoDevice(Exception):
    """Nothing can be computed, for this reason."""


class Subject:
    def __init__(self, home: Path, config_file: Path | None, environ: Mapping[str, str]) -> None:
        self.home = home
        self.environ = environ
        self.loaded: LoadedConfig | ConfigError
        try:
            self.loaded = load_config(home, environ=environ, file=config_file)
        except ConfigError as error:
            self.loaded = error

    @cached_property
    def config(self) -> Config:
        """The defaults where the configuration is wrong, so that the rest can be looked at."""
        if isinstance(self.loaded, ConfigError):
            return default_config(self.home)
        return self.loaded.config

    @property
    def models_dir(self) -> Path:
        return Path(self.config.models.directory)

    @cached_property
    def device(self) -> DeviceReport | NoDevice:
        return _ask(worker_environment(self.environ))

    @cached_property
    def chat_device(self) -> DeviceReport | NoDevice:
        """As chat models find it."""
        environment = worker_environment(self.environ, is_chat=True)
        is_same = environment == worker_environment(self.environ)
        return self.device if is_same else _ask(environment)


def _ask(environment: Mapping[str, str]) -> DeviceReport | NoDevice:
    """A process of its own: this one must never load MLX."""
    try:
        asked = subprocess.run(
            _DEVICE_PROGRAM,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=_DEVICE_S,
        )
    except subprocess.TimeoutExpired:
        return NoDevice(f"MLX did not answer within {_DEVICE_S:g} s")
    try:
        return msgspec.json.decode(asked.stdout, type=DeviceReport)
    except UNDECODABLE:
        lines = asked.stderr.decode("utf-8", "replace").splitlines()
        last = next((line for line in reversed(lines) if line.strip()), None)
        return NoDevice(last or f"its process ended with exit code {asked.returncode}")
