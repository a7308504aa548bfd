"""A server that is given another configuration while it runs.

Handlers keep what they were built with, so they are built anew: requests that are being answered
end under the configuration they came under. Invariant: a configuration that is wrong, or whose
change needs a restart, changes nothing that it names.
"""

import logging
from collections.abc import Callable

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from mlx_serve_common import logs
from mlx_serve_common.config import Config
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.reloading import Reload, reloadable
from mlx_serve_common.settings import ConfigError
from mlx_serve_gateway.pool_settings import pool_settings
from mlx_serve_gateway.server_events import Reloaded
from mlx_serve_gateway.services import Services

log = logging.getLogger(__name__)


class Reconfiguration:
    """The application of the moment, and what replaces it."""

    services: Services
    _app: ASGIApp

    def __init__(
        self, read_config: Callable[[], Config], build: Callable[[Services], ASGIApp]
    ) -> None:
        self._read_config = read_config
        self._build = build

    def begin(self, services: Services) -> None:
        self.services, self._app = services, self._build(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def reload(self) -> Reload:
        """Raises ``ServeError`` if the configuration is wrong."""
        try:
            wanted = self._read_config()
        except ConfigError as error:
            log.error("the configuration is not reloaded: %s", error)
            raise ServeError(ErrorCode.INVALID_REQUEST, str(error)) from None
        change = reloadable(self.services.config, wanted)
        if change.applied:
            self._apply(change.config)
        log.info(
            "reloaded: %s; needs a restart: %s",
            ", ".join(change.applied) or "nothing",
            ", ".join(change.needs_restart) or "nothing",
        )
        told = Reloaded(applied=change.applied, needs_restart=change.needs_restart)
        self.services.events.tell(told)
        return change

    def _apply(self, config: Config) -> None:
        services = msgspec.structs.replace(self.services, config=config)
        services.registry.rename(config.models.aliases)
        services.downloads.configure(config)
        services.pool.configure(pool_settings(config, services.registry))
        logs.configure(config.logging.level, config.logging.format)
        self.begin(services)
