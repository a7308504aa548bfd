"""What every handler may use; built once by the server, never changed."""

import msgspec

from mlx_serve_common.config import Config
from mlx_serve_gateway.downloads import Downloads
from mlx_serve_gateway.jobs import Jobs
from mlx_serve_gateway.lifecycle import Lifecycle
from mlx_serve_gateway.metrics import Metrics
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.registry import Registry
from mlx_serve_gateway.spare import Spare


class Services(msgspec.Struct, frozen=True):
    config: Config
    registry: Registry
    pool: Pool
    lifecycle: Lifecycle
    jobs: Jobs
    downloads: Downloads
    spare: Spare
    metrics: Metrics
