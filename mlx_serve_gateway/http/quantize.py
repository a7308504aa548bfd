"""POST /api/quantize: a second, quantized form of an installed model; who asks for it too joins."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.conversion import Conversion, scheme
from mlx_serve_gateway import orders
from mlx_serve_gateway.http.codec import CONTROL_BODY_BYTES, decode, read_body
from mlx_serve_gateway.http.job_answer import job_answer
from mlx_serve_gateway.http.ollama_models import required_name
from mlx_serve_gateway.jobs import JobRequest
from mlx_serve_gateway.services import Services


class QuantizeRequest(msgspec.Struct, kw_only=True):
    model: str | None = None
    bits: int | None = None
    mode: str | None = None
    group_size: int | None = None
    name: str | None = None
    """Of the new model; else MODEL-4bit, MODEL-8bit, MODEL-mxfp4, …"""
    stream: bool | None = None


_decoder = msgspec.json.Decoder(QuantizeRequest)


class QuantizeApi:
    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._registry = services.registry
        self._jobs = services.jobs

    async def quantize(self, request: Request) -> Response:
        body = decode(_decoder, await read_body(request, CONTROL_BODY_BYTES))
        wanted = Conversion(scheme(body.mode, body.bits, body.group_size))
        model = self._registry.find(required_name(body.model))
        order = orders.Quantize(model=model, conversion=wanted, name=body.name)
        job = self._jobs.start(
            JobRequest("quantize", order.installed_name, order.arguments(self._config))
        )
        return await job_answer(job, request, stream=body.stream is not False)
