"""POST /api/chat: a conversation, answered line by line unless asked otherwise.

Without messages it loads the model, or lets it go when ``keep_alive`` is 0.
"""

from time import monotonic
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.chat import Conversation
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.generate_call import GenerateCall
from mlx_serve_gateway.http.answering import ChatModels
from mlx_serve_gateway.http.chat_abilities import require_tools
from mlx_serve_gateway.http.chat_messages import begins_answer, read_messages
from mlx_serve_gateway.http.chat_tools import read_tools
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.conversation_bounds import Messages, ToolList
from mlx_serve_gateway.http.durations import KeepAlive, keep_alive_s
from mlx_serve_gateway.http.ollama_answers import Asked, OllamaAnswers, as_message
from mlx_serve_gateway.http.ollama_messages import OllamaMessage, in_openais_shape
from mlx_serve_gateway.http.ollama_models import required_name
from mlx_serve_gateway.http.ollama_options import OllamaWishes
from mlx_serve_gateway.services import Services


class OllamaChatRequest(OllamaWishes, kw_only=True):
    model: str | None = None
    name: str | None = None
    messages: Messages[OllamaMessage] | None = None
    tools: ToolList[dict[str, Any]] | None = None
    stream: bool | None = None
    keep_alive: KeepAlive = None


_chat = msgspec.json.Decoder(OllamaChatRequest)


class OllamaChatApi:
    def __init__(self, services: Services) -> None:
        self._max_bytes = services.config.limits.max_body_bytes
        self._models = ChatModels(services)
        self._answers = OllamaAnswers(services)

    async def chat(self, request: Request) -> Response:
        since = monotonic()
        body = decode(_chat, await read_body(request, self._max_bytes))
        name = required_name(body.model or body.name)
        ttl_s = keep_alive_s(body.keep_alive)
        sampling = body.sampling()
        asked = Asked(
            name=name,
            model=await self._models.find(request, name),
            ttl_s=ttl_s,
            is_streamed=body.stream is not False,
            since=since,
            wording=as_message,
        )
        if not body.messages:
            return await self._answers.tell_loaded(request, asked)
        conversation = _conversation(body, body.messages, asked.model)
        return await self._answers.tell(request, asked, GenerateCall(conversation, sampling))


def _conversation(
    body: OllamaChatRequest, messages: list[OllamaMessage], model: InstalledModel
) -> Conversation:
    read = read_messages(in_openais_shape(messages))
    tools = read_tools(body.tools)
    if tools:
        require_tools(model)
    thinking, effort = body.reasoning(model)
    return Conversation(
        read,
        tools=tools,
        thinking=thinking,
        effort=effort,
        continues=begins_answer(read),
    )
