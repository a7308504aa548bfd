"""A service with every sort of character that a path may have."""

from pathlib import Path
from typing import Any

import msgspec

from mlx_serve_gateway.supervision.service import Service

SERVICE = Service(
    program=("/opt/내 서버/100% $HOME/python", "-P", "-m", "mlx_serve_gateway.cli.main"),
    home=Path('/home/김/my "models" & 50%h\\n $x\''),
    models=Path("/data/모델 1"),
    user="kim",
    user_home=Path("/home/김"),
    restart_on_failure=True,
    restart_delay_s=2.5,
    start_timeout_s=120,
    stop_timeout_s=45,
)


def service(**changes: Any) -> Service:
    return msgspec.structs.replace(SERVICE, **changes)
