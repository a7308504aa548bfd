"""POST /v1/responses: OpenAI's newer way to ask, without what would need a memory of answers."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_gateway.generate_call import GenerateCall
from mlx_serve_gateway.http import responses_answer
from mlx_serve_gateway.http.answering import ChatModels, Hearing
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.durations import keep_alive_s
from mlx_serve_gateway.http.responses_request import ResponsesRequest
from mlx_serve_gateway.http.responses_stream import ResponseEvents
from mlx_serve_gateway.http.streaming import StreamedAnswer
from mlx_serve_gateway.services import Services

_decoder = msgspec.json.Decoder(ResponsesRequest)


class ResponsesApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._max_bytes = services.config.limits.max_body_bytes
        self._models = ChatModels(services)

    async def create(self, request: Request) -> Response:
        body = decode(_decoder, await read_body(request, self._max_bytes))
        ttl_s = keep_alive_s(body.keep_alive)
        sampling = body.sampling()
        model = await self._models.find(request, body.model)
        call = GenerateCall(body.as_conversation(model), sampling)
        hearing = Hearing(self._services, model, call, ttl_s)
        if body.stream:
            return StreamedAnswer(hearing, ResponseEvents(body, model))
        (answer,) = await hearing.whole(request)
        return json_response(responses_answer.whole(body, model, answer))
