"""Which model a request is for, fetching it where its sender may have that.

Invariants: a stranger's request downloads nothing, and is told no more than that there is no such
model; a sender who leaves stops waiting, the download goes on.
"""

from starlette.requests import Request

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_common.reloading import value_of
from mlx_serve_gateway.http.access import Access
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.registry import DEFAULTS
from mlx_serve_gateway.services import Services


class ModelChoice:
    def __init__(self, services: Services) -> None:
        self._registry = services.registry
        self._downloads = services.downloads
        self._access = Access(services.config.server, services.controls.own_key)
        self._config = services.config

    async def find(
        self, request: Request, name: str | None, kind: ModelKind | None = None
    ) -> InstalledModel:
        """The installed model; if none is named, the default of that kind, or the only one.

        To be called after the body was read.
        """
        if name is None and kind is not None:
            name = value_of(self._config, DEFAULTS[kind])
        try:
            return self._registry.find_or_only(name, kind)
        except ServeError as error:
            if name is None or not self._is_to_be_fetched(request, name, error):
                raise
        installed: list[InstalledModel] = []

        async def fetch() -> None:
            installed.append(await self._downloads.fetch_in_time(name))

        await unless_gone(request.scope, fetch())
        return self._registry.find_or_only(installed[0].name, kind)

    def _is_to_be_fetched(self, request: Request, name: str, error: ServeError) -> bool:
        return (
            error.code is ErrorCode.MODEL_NOT_FOUND
            and self._downloads.reference(name) is not None
            and self._access.may_change(request.scope)
        )
