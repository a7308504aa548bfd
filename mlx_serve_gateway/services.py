"""What every handler may use; built by the server, and anew when the configuration is reloaded."""

from collections.abc import Callable

import msgspec

from mlx_serve_common.config import Config
from mlx_serve_common.reloading import Reload
from mlx_serve_gateway.downloads import Downloads
from mlx_serve_gateway.event_log import EventLog
from mlx_serve_gateway.jobs import Jobs
from mlx_serve_gateway.lifecycle import Lifecycle
from mlx_serve_gateway.metrics import Metrics
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.registry import Registry
from mlx_serve_gateway.spare import Spare
from mlx_serve_gateway.tracing import Tracing


class Controls(msgspec.Struct, frozen=True):
    """What can be done to the server as a whole."""

    stop: Callable[[], None]
    """Finish what is running, then end."""
    reload: Callable[[], Reload]
    """Read the configuration again; ``ServeError`` if it is wrong, and nothing has changed."""
    own_key: str | None = None
    """What our own commands prove themselves with: only who runs the server can read it."""


class Services(msgspec.Struct, frozen=True, kw_only=True):
    config: Config
    registry: Registry
    pool: Pool
    lifecycle: Lifecycle
    jobs: Jobs
    downloads: Downloads
    spare: Spare
    metrics: Metrics
    events: EventLog
    tracing: Tracing | None
    controls: Controls
