"""Changing what is installed while requests may be using it: removing and copying a model.

Invariants: what was asked of a model that is removed is answered first, and whoever asks meanwhile
is told to come back; nothing here waits for another process's work on the same name.
"""

import asyncio
import errno
import logging
from collections.abc import Callable
from pathlib import Path

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_common.store_changes import copy_model, remove_model
from mlx_serve_gateway.jobs import Jobs
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.refusals import worked_on

log = logging.getLogger(__name__)

_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS}
_RETRY_AFTER_S = 5
_FULL = {errno.ENOSPC, errno.EDQUOT}


class StoreChanges:
    def __init__(self, models_dir: Path, pool: Pool, jobs: Jobs) -> None:
        self._models_dir = models_dir
        self._pool = pool
        self._jobs = jobs

    async def remove(self, model: InstalledModel, within_s: float) -> None:
        """``model_busy`` if a job works on it, or if it is in use for longer than ``within_s``."""
        self._refuse_if_worked_on(model.name)
        async with self._pool.retire(model, within_s):
            await self.remove_folder(model.path.name)

    async def remove_folder(self, folder: str) -> None:
        """Also of what is no model any more."""
        self._refuse_if_worked_on(folder)
        await _in_thread(lambda: remove_model(self._models_dir, folder, lambda: _refuse(folder)))

    async def copy(self, model: InstalledModel, name: str) -> None:
        self._refuse_if_worked_on(name)
        source = model.path.name
        await _in_thread(lambda: copy_model(self._models_dir, source, name, lambda: _refuse(name)))

    def _refuse_if_worked_on(self, name: str) -> None:
        if self._jobs.is_working_on(name):
            _refuse(name)


def _refuse(name: str) -> None:
    raise worked_on(name)


async def _in_thread(change: Callable[[], object]) -> None:
    try:
        await asyncio.to_thread(change)
    except OSError as error:
        log.error("the models folder could not be changed: %s", error)
        if error.errno in _NOT_OURS:
            raise ServeError(
                ErrorCode.ACCESS_DENIED, "the server may not write to its models folder"
            ) from None
        if error.errno in _FULL:
            raise ServeError(ErrorCode.INSUFFICIENT_STORAGE, "the disk is full") from None
        raise ServeError(
            ErrorCode.MODEL_UNAVAILABLE,
            "the models folder could not be changed; the server's log has the reason",
            retry_after_s=_RETRY_AFTER_S,
        ) from None
