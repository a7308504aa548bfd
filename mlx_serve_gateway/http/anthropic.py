"""POST /v1/messages and /v1/messages/count_tokens: a chat model in Anthropic's shape.

Thinking is switched on and off where the model has a switch; a model that does not reason answers
without, because coding agents ask every model for it.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.chat import Conversation, Sampling
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.calls import CountTokensCall
from mlx_serve_gateway.generate_call import GenerateCall
from mlx_serve_gateway.http.answering import ChatModels, Hearing
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.http.anthropic_answer import message
from mlx_serve_gateway.http.anthropic_messages import conversation_messages
from mlx_serve_gateway.http.anthropic_request import CountRequest, MessagesRequest
from mlx_serve_gateway.http.anthropic_stream import AnthropicEvents
from mlx_serve_gateway.http.anthropic_tools import conversation_tools
from mlx_serve_gateway.http.chat_abilities import require_tools, thinks
from mlx_serve_gateway.http.chat_messages import begins_answer
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.http.durations import keep_alive_s
from mlx_serve_gateway.http.reasoning import Reasoning, reasoning
from mlx_serve_gateway.http.response_format import encoded
from mlx_serve_gateway.http.streaming import StreamedAnswer
from mlx_serve_gateway.services import Services

_messages = msgspec.json.Decoder(MessagesRequest)
_count = msgspec.json.Decoder(CountRequest)


class AnthropicApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._max_bytes = services.config.limits.max_body_bytes
        self._models = ChatModels(services)

    async def create(self, request: Request) -> Response:
        body = decode(_messages, await read_body(request, self._max_bytes))
        ttl_s = keep_alive_s(body.keep_alive)
        sampling = _sampling(body)
        model = await self._models.find(request, body.model)
        call = GenerateCall(_conversation(body, model), sampling)
        hearing = Hearing(self._services, model, call, ttl_s)
        if body.stream:
            return StreamedAnswer(hearing, AnthropicEvents(body.model, request.scope["path"]))
        (answer,) = await hearing.whole(request)
        return json_response(message(body.model, answer))

    async def count_tokens(self, request: Request) -> Response:
        body = decode(_count, await read_body(request, self._max_bytes))
        model = await self._models.find(request, body.model)
        call = CountTokensCall(_conversation(body, model))
        with self._services.pool.lease(model, call) as lane:
            await unless_gone(request.scope, lane.answer(call))
        return json_response({"input_tokens": len(call.tokens)})


def _sampling(body: MessagesRequest) -> Sampling:
    config = body.output_config
    return Sampling(
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop=[text for text in body.stop_sequences or [] if text],
        json_schema=encoded(config.format.schema) if config and config.format else None,
    )


def _reasoning(body: CountRequest, model: InstalledModel) -> Reasoning:
    if not thinks(model):
        return Reasoning(None, None)
    asked = None if body.thinking is None else body.thinking.type
    is_on = {"enabled": True, "disabled": False}.get(asked or "")
    effort = None if body.output_config is None else body.output_config.effort
    return reasoning(model, effort, is_on, param="thinking")


def _conversation(body: CountRequest, model: InstalledModel) -> Conversation:
    messages = conversation_messages(body)
    tools, forced = conversation_tools(body)
    if tools:
        require_tools(model)
    thinking, effort = _reasoning(body, model)
    choice = body.tool_choice
    return Conversation(
        messages,
        tools=tools,
        forced=forced,
        is_parallel=not (choice and choice.disable_parallel_tool_use),
        thinking=thinking,
        effort=effort,
        continues=begins_answer(messages),
    )
