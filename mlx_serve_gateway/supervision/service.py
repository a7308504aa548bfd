"""What is to run as a service, said once for launchd and systemd.

Invariants: every path is absolute; nothing is taken from the environment of whoever installs the
service but the home folder, because the service will not have that environment.
"""

import getpass
import math
import sys
from pathlib import Path

import msgspec

from mlx_serve_common.config import Config

# -P: a folder named like one of our packages, where the person stands, must not be run.
PROGRAM = (sys.executable, "-P", "-m", "mlx_serve_gateway.cli.main")

# Beyond a drain of the predecessor: how long a cold, busy machine may need to start the server.
START_S = 90
# Beyond the drain: for the connections to close and the workers to end.
_END_S = 15


class Service(msgspec.Struct, frozen=True, kw_only=True):
    program: tuple[str, ...]
    home: Path
    models: Path
    user: str
    user_home: Path
    restart_on_failure: bool
    restart_delay_s: float
    start_timeout_s: int
    stop_timeout_s: int

    @property
    def environment(self) -> dict[str, str]:
        return {"MLX_SERVE_HOME": str(self.home)}


def service_log(home: Path) -> Path:
    """Where the output goes if the supervisor keeps no log of its own."""
    return home / "logs" / "service.log"


def service(config: Config, home: Path) -> Service:
    drain_s = math.ceil(config.limits.drain_timeout)
    return Service(
        program=PROGRAM,
        home=home,
        models=Path(config.models.directory),
        user=getpass.getuser(),
        user_home=Path.home(),
        restart_on_failure=config.service.restart_on_failure,
        restart_delay_s=config.service.restart_delay,
        start_timeout_s=drain_s + START_S,
        stop_timeout_s=drain_s + _END_S,
    )
