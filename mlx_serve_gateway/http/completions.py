"""POST /v1/completions: texts, or token ids, to be continued as they stand."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.chat import Plain, Prompt, Sampling, TokenIds
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.generate_call import GenerateCall
from mlx_serve_gateway.http import completion_answer
from mlx_serve_gateway.http.answering import ChatModels, Hearing
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.completion_answer import CompletionChunks
from mlx_serve_gateway.http.durations import keep_alive_s
from mlx_serve_gateway.http.embedding_input import check_count, one_kind
from mlx_serve_gateway.http.hearing_together import HearingTogether
from mlx_serve_gateway.http.response_format import schema_of
from mlx_serve_gateway.http.sampling_request import MOST_LOGPROBS, SamplingRequest, unsupported
from mlx_serve_gateway.http.streaming import StreamedAnswer
from mlx_serve_gateway.services import Services

_MOST_PROMPTS = 64
# OpenAI's: clients that want more say so.
_USUAL_MAX_TOKENS = 16


class CompletionRequest(SamplingRequest, kw_only=True):
    prompt: str | list[Any]
    logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    response_format: dict[str, Any] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None

    def sampling(self) -> Sampling:
        if self.echo:
            raise unsupported("echo", "put the prompt before the text yourself")
        if self.suffix:
            raise unsupported("suffix", "the model continues texts only")
        if self.best_of is not None and self.best_of != self.choices:
            raise unsupported("best_of", "send n, and choose")
        return msgspec.structs.replace(
            super().sampling(),
            max_tokens=self.max_tokens or _USUAL_MAX_TOKENS,
            top_logprobs=self.logprobs,
            json_schema=schema_of(self.response_format, "response_format"),
        )

    def prompts(self) -> list[Prompt]:
        given = one_kind(self.prompt, "prompt")
        if not given or "" in given:
            raise ServeError(ErrorCode.EMPTY_INPUT, "prompt must not be empty", param="prompt")
        check_count(len(given), _MOST_PROMPTS, "prompt")
        return [Plain(each) if isinstance(each, str) else TokenIds(each) for each in given]


_decoder = msgspec.json.Decoder(CompletionRequest)


class CompletionsApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._max_bytes = services.config.limits.max_body_bytes
        self._models = ChatModels(services)

    async def create(self, request: Request) -> Response:
        body = decode(_decoder, await read_body(request, self._max_bytes))
        ttl_s = keep_alive_s(body.keep_alive)
        sampling, prompts = body.sampling(), body.prompts()
        model = await self._models.find(request, body.model)
        calls = [GenerateCall(prompt, sampling, body.choices) for prompt in prompts]
        hearing = HearingTogether([Hearing(self._services, model, call, ttl_s) for call in calls])
        is_likely = body.logprobs is not None
        if body.stream:
            chunks = CompletionChunks(
                model, choices=body.choices, is_likely=is_likely, wants_usage=body.wants_usage
            )
            return StreamedAnswer(hearing, chunks)
        answers = await hearing.whole(request)
        return json_response(
            completion_answer.whole(model, answers, choices=body.choices, is_likely=is_likely)
        )
