"""The models that are to be in memory from the start: loaded, and fetched first where that is due.

Invariants: what cannot be had is told by ``/health`` and ``/readyz`` for as long as that is so, and
keeps nobody else from being served.
"""

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from mlx_serve_common.config import ModelsConfig
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.references import Reference, read_reference
from mlx_serve_gateway.downloads import Downloads
from mlx_serve_gateway.lifecycle import Lifecycle
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.registry import Registry

log = logging.getLogger(__name__)


class Preloading:
    """An async context manager: leaving it gives up what is still awaited."""

    def __init__(
        self,
        config: ModelsConfig,
        registry: Registry,
        pool: Pool,
        downloads: Downloads,
        lifecycle: Lifecycle,
    ) -> None:
        self._config = config
        self._registry = registry
        self._pool = pool
        self._downloads = downloads
        self._lifecycle = lifecycle
        self._fetching: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for name in dict.fromkeys((*self._config.pin, *self._config.preload)):
            self._begin(name)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._fetching:
            task.cancel()
        await asyncio.gather(*self._fetching, return_exceptions=True)

    def _begin(self, name: str) -> None:
        try:
            self._pool.preload(self._registry.find(name))
        except ServeError as error:
            reference = self._downloads.reference(name)
            if error.code is ErrorCode.MODEL_NOT_FOUND and reference and self._config.auto_download:
                self._lifecycle.preload_errors[name] = "it is being downloaded"
                task = asyncio.ensure_future(self._fetch(name, reference))
                self._fetching.append(task)
            else:
                self._fail(name, error)

    async def _fetch(self, name: str, reference: Reference) -> None:
        try:
            model = await self._downloads.fetch(reference)
        except ServeError as error:
            self._fail(name, error)
        else:
            del self._lifecycle.preload_errors[name]
            self._pool.preload(model)

    def _fail(self, name: str, error: ServeError) -> None:
        log.error("not preloaded: %s", error.message)
        self._lifecycle.preload_errors[name] = error.message


def installed_names(names: Sequence[str], registry: Registry) -> list[str]:
    """The names under which these models are installed, or will be."""
    found = []
    for name in names:
        try:
            found.append(registry.find(name).name)
        except ServeError:
            reference = read_reference(registry.meant(name))
            found.append(name if reference is None else reference.model)
    return found
