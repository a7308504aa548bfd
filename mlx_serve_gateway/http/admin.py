"""/admin/…: what an operator does to a running server; for its owner alone.

Nothing here is in the configuration file afterwards: it lasts until the server ends, or until the
configuration is reloaded.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.calls import TokenizeCall
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.http.codec import CONTROL_BODY_BYTES, decode, read_body
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.http.durations import KeepAlive, keep_alive_s
from mlx_serve_gateway.services import Services


class ModelOrder(msgspec.Struct, kw_only=True):
    model: str
    keep_alive: KeepAlive = None


class ModelState(msgspec.Struct):
    model: str
    state: str
    pinned: bool


class Reconfigured(msgspec.Struct):
    applied: tuple[str, ...]
    """Keys that have their new value."""
    needs_restart: tuple[str, ...]
    """Keys that have changed in the configuration and not here."""


class Drained(msgspec.Struct):
    status: Literal["draining"] = "draining"


_order = msgspec.json.Decoder(ModelOrder)


class AdminApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._pool = services.pool

    async def load(self, request: Request) -> Response:
        """Answers when the model is there."""
        order, model = await self._ordered(request)
        # Any kind of worker answers this as soon as it is there.
        call = TokenizeCall([""], special=False)
        with self._pool.lease(model, call, ttl_s=keep_alive_s(order.keep_alive)) as lane:
            await unless_gone(request.scope, lane.answer(call))
        return self._state(model)

    async def unload(self, request: Request) -> Response:
        """The model leaves when what was asked of it is done."""
        _, model = await self._ordered(request)
        if self._is_pinned(model):
            raise ServeError(
                ErrorCode.MODEL_BUSY, f"{model.name!r} is pinned; unpin it first", param="model"
            )
        self._pool.unload(model)
        return self._state(model)

    async def pin(self, request: Request) -> Response:
        _, model = await self._ordered(request)
        self._pool.pin(model)
        return self._state(model)

    async def unpin(self, request: Request) -> Response:
        _, model = await self._ordered(request)
        self._pool.unpin(model)
        return self._state(model)

    async def reload(self, request: Request) -> Response:
        change = self._services.controls.reload()
        return json_response(Reconfigured(change.applied, change.needs_restart))

    async def drain(self, request: Request) -> Response:
        """The server finishes what it is doing, takes nothing new, and ends."""
        self._services.controls.stop()
        return json_response(Drained(), 202)

    async def events(self, request: Request) -> Response:
        """A JSON object a line: those remembered after ``?after=``, then each new one."""
        after = request.query_params.get("after", "0")
        if not after.isdecimal() or len(after) > 18:
            raise ServeError(ErrorCode.INVALID_REQUEST, "after: must be a number", param="after")
        return StreamingResponse(self._lines(int(after)), media_type="application/x-ndjson")

    async def _lines(self, after: int) -> AsyncIterator[bytes]:
        async with aclosing(self._services.events.watch(after)) as events:
            async for told in events:
                line = {"number": told.number, "at": told.at, **msgspec.to_builtins(told.what)}
                yield msgspec.json.encode(line) + b"\n"

    async def _ordered(self, request: Request) -> tuple[ModelOrder, InstalledModel]:
        order = decode(_order, await read_body(request, CONTROL_BODY_BYTES))
        return order, self._services.registry.find(order.model)

    def _is_pinned(self, model: InstalledModel) -> bool:
        return any(lane.pinned for lane in self._pool.statuses() if lane.model == model.name)

    def _state(self, model: InstalledModel) -> Response:
        lanes = [lane for lane in self._pool.statuses() if lane.model == model.name]
        state = ModelState(
            model=model.name,
            state=lanes[0].state if lanes else "absent",
            pinned=bool(lanes) and lanes[0].pinned,
        )
        return json_response(state)
