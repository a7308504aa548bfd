"""Loads a model, or lets it go, for a request that wants nothing else."""

from time import monotonic

from starlette.requests import Request

from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.calls import TokenizeCall
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.pool import Pool


class Loading:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load(self, request: Request, model: InstalledModel, ttl_s: float | None) -> float:
        """The seconds that it took; 0 to stay means that it is to go."""
        if ttl_s == 0:
            self._pool.unload(model)
            return 0.0
        started = monotonic()
        # Answered as soon as the model is there, by whatever kind of worker.
        call = TokenizeCall([""], special=False)
        with self._pool.lease(model, call, ttl_s=ttl_s) as lane:
            await unless_gone(request.scope, lane.answer(call))
            return max(0.0, (lane.ready_since or started) - started)
