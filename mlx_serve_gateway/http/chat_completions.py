"""POST /v1/chat/completions: a conversation, answered whole or while the answer is said."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_gateway.generate_call import GenerateCall
from mlx_serve_gateway.http import chat_answer
from mlx_serve_gateway.http.answering import ChatModels, Hearing
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.http.chat_answer import ChatChunks
from mlx_serve_gateway.http.chat_request import ChatRequest
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.durations import keep_alive_s
from mlx_serve_gateway.http.streaming import StreamedAnswer
from mlx_serve_gateway.services import Services

_decoder = msgspec.json.Decoder(ChatRequest)


class ChatCompletionsApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._max_bytes = services.config.limits.max_body_bytes
        self._models = ChatModels(services)

    async def create(self, request: Request) -> Response:
        body = decode(_decoder, await read_body(request, self._max_bytes))
        ttl_s = keep_alive_s(body.keep_alive)
        sampling = body.sampling()
        model = await self._models.find(request, body.model)
        call = GenerateCall(body.conversation(model), sampling, body.choices)
        hearing = Hearing(self._services, model, call, ttl_s)
        is_likely = bool(body.logprobs)
        if not body.stream:
            answers = await hearing.whole(request)
            return json_response(chat_answer.whole(model, answers, is_likely=is_likely))
        chunks = ChatChunks(model, body.choices, is_likely=is_likely, wants_usage=body.wants_usage)
        return StreamedAnswer(hearing, chunks)
