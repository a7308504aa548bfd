"""POST /api/generate: one prompt, answered as a message of a user, or ``raw`` as it stands.

Without a prompt it loads the model, or lets it go when ``keep_alive`` is 0.
"""

from time import monotonic
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.chat import Conversation, Plain, Prompt
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.generate_call import GenerateCall
from mlx_serve_gateway.http.answering import ChatModels
from mlx_serve_gateway.http.chat_abilities import has_template
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.durations import KeepAlive, keep_alive_s
from mlx_serve_gateway.http.ollama_answers import Asked, OllamaAnswers, as_response
from mlx_serve_gateway.http.ollama_messages import refuse_images
from mlx_serve_gateway.http.ollama_models import required_name
from mlx_serve_gateway.http.ollama_options import OllamaWishes
from mlx_serve_gateway.services import Services


class GenerateRequest(OllamaWishes, kw_only=True):
    model: str | None = None
    name: str | None = None
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[Any] | None = None
    stream: bool | None = None
    keep_alive: KeepAlive = None


_generate = msgspec.json.Decoder(GenerateRequest)


class OllamaGenerateApi:
    def __init__(self, services: Services) -> None:
        self._max_bytes = services.config.limits.max_body_bytes
        self._models = ChatModels(services)
        self._answers = OllamaAnswers(services)

    async def generate(self, request: Request) -> Response:
        since = monotonic()
        body = decode(_generate, await read_body(request, self._max_bytes))
        name = required_name(body.model or body.name)
        ttl_s = keep_alive_s(body.keep_alive)
        _refuse_what_cannot_be_done(body)
        sampling = body.sampling()
        asked = Asked(
            name=name,
            model=await self._models.find(request, name),
            ttl_s=ttl_s,
            is_streamed=body.stream is not False,
            since=since,
            wording=as_response,
        )
        if not body.prompt:
            return await self._answers.tell_loaded(request, asked)
        prompt = _prompt(body, body.prompt, asked.model)
        return await self._answers.tell(request, asked, GenerateCall(prompt, sampling))


def _refuse_what_cannot_be_done(body: GenerateRequest) -> None:
    refuse_images(body.images)
    if body.suffix:
        raise _unsupported("suffix", "no model here fills in a gap between two texts")
    if body.template:
        raise _unsupported("template", "the model's own is used; send 'raw' to use none")
    if body.raw and (body.system or body.context):
        raise _unsupported("raw", "raw mode does not support template, system, or context")


def _prompt(body: GenerateRequest, prompt: str, model: InstalledModel) -> Prompt:
    thinking, effort = body.reasoning(model)
    if body.raw or not (has_template(model) or body.system):
        return Plain(prompt)
    messages = [{"role": "system", "content": body.system}] if body.system else []
    messages.append({"role": "user", "content": prompt})
    return Conversation(messages, thinking=thinking, effort=effort)


def _unsupported(param: str, why: str) -> ServeError:
    return ServeError(ErrorCode.UNSUPPORTED_PARAMETER, f"{param}: {why}", param=param)
