"""How many tokens a request to a chat model has: what the model would read, nothing is answered."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.chat import Conversation
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.calls import CountTokensCall
from mlx_serve_gateway.http.answering import ChatModels
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.http.chat_request import ChatRequest
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.http.responses_request import ResponsesRequest
from mlx_serve_gateway.http.sampling_request import unsupported
from mlx_serve_gateway.http.token_answers import VllmTokens
from mlx_serve_gateway.services import Services


class ConversationToTokenize(ChatRequest, kw_only=True):
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


_chat = msgspec.json.Decoder(ChatRequest)
_responses = msgspec.json.Decoder(ResponsesRequest)
_tokenize = msgspec.json.Decoder(ConversationToTokenize)


class ConversationTokensApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._max_bytes = services.config.limits.max_body_bytes
        self._models = ChatModels(services)

    async def of_chat(self, request: Request) -> Response:
        body = decode(_chat, await read_body(request, self._max_bytes))
        model = await self._models.find(request, body.model)
        return _count(await self._tokens(request, model, body.conversation(model)))

    async def of_responses(self, request: Request) -> Response:
        body = decode(_responses, await read_body(request, self._max_bytes))
        model = await self._models.find(request, body.model)
        return _count(await self._tokens(request, model, body.as_conversation(model)))

    async def tokenize(self, request: Request, content: bytes) -> Response:
        """In vLLM's shape, for a body that was read."""
        body = decode(_tokenize, content)
        if body.add_special_tokens:
            raise unsupported("add_special_tokens", "the model's chat template writes them")
        if body.return_token_strs:
            raise unsupported("return_token_strs", "send the ids to /v1/detokenize")
        model = await self._models.find(request, body.model)
        tokens = await self._tokens(request, model, body.conversation(model))
        count, most = len(tokens), model.manifest.max_tokens
        return json_response(VllmTokens(count=count, max_model_len=most, tokens=tokens))

    async def _tokens(
        self, request: Request, model: InstalledModel, conversation: Conversation
    ) -> list[int]:
        call = CountTokensCall(conversation)
        with self._services.pool.lease(model, call) as lane:
            await unless_gone(request.scope, lane.answer(call))
        return call.tokens


def _count(tokens: list[int]) -> Response:
    return json_response({"object": "response.input_tokens", "input_tokens": len(tokens)})
