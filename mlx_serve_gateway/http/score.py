"""vLLM's /score: how well each pair of texts fits together."""

import asyncio
import secrets
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.calls import RerankCall
from mlx_serve_gateway.http.answers import computed_headers, json_response
from mlx_serve_gateway.http.asked_priority import asked_priority
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.http.durations import KeepAlive, keep_alive_s
from mlx_serve_gateway.http.model_choice import ModelChoice
from mlx_serve_gateway.http.rerank import RerankUsage, check_query
from mlx_serve_gateway.services import Services

OneOrMany = str | list[str]


class ScoreRequest(msgspec.Struct, kw_only=True):
    model: str | None = None
    text_1: OneOrMany | None = None
    text_2: OneOrMany | None = None
    queries: OneOrMany | None = None
    documents: OneOrMany | None = None
    instruction: str | None = None
    raw_scores: bool | None = None
    keep_alive: KeepAlive = None


class Score(msgspec.Struct):
    index: int
    score: float
    object: str = "score"


class ScoreAnswer(msgspec.Struct, kw_only=True):
    id: str
    object: str = "list"
    created: int
    model: str
    data: list[Score]
    usage: RerankUsage


_decoder = msgspec.json.Decoder(ScoreRequest)


class ScoreApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._limits = services.config.limits
        self._models = ModelChoice(services)

    async def score(self, request: Request) -> Response:
        body = decode(_decoder, await read_body(request, self._limits.max_body_bytes))
        calls = self._calls(body)
        ttl_s = keep_alive_s(body.keep_alive)
        model = await self._models.find(request, body.model, ModelKind.RERANKER)
        for call in calls:
            call.priority = asked_priority(request)
        with self._services.pool.lease(model, *calls, ttl_s=ttl_s) as lane:

            async def all_answers() -> None:
                try:
                    async with asyncio.TaskGroup() as tasks:
                        for call in calls:
                            tasks.create_task(lane.answer(call))
                except ExceptionGroup as failures:
                    raise failures.exceptions[0] from None

            await unless_gone(request.scope, all_answers())
        scores = [
            score
            for call in calls
            for score in (call.raw_scores if body.raw_scores else call.scores)
        ]
        tokens = sum(call.tokens for call in calls)
        answer = ScoreAnswer(
            id=f"score-{secrets.token_hex(12)}",
            created=int(datetime.now(UTC).timestamp()),
            model=model.name,
            data=[Score(index, score) for index, score in enumerate(scores)],
            usage=RerankUsage(tokens, tokens),
        )
        truncated = sum(call.truncated for call in calls)
        compute_s = max(call.compute_s for call in calls)
        return json_response(answer, headers=computed_headers(compute_s, truncated))

    def _calls(self, body: ScoreRequest) -> list[RerankCall]:
        queries = _several(body.text_1 if body.queries is None else body.queries, "text_1")
        documents = _several(body.text_2 if body.documents is None else body.documents, "text_2")
        if len(documents) > self._limits.max_documents:
            raise ServeError(
                ErrorCode.TOO_MANY_INPUTS,
                f"{len(documents)} pairs are more than the {self._limits.max_documents} allowed",
                param="text_2",
            )
        for query in queries:
            check_query(query)
        if len(queries) == 1:
            return [self._call(queries[0], documents, body)]
        if len(queries) != len(documents):
            raise ServeError(
                ErrorCode.INVALID_REQUEST,
                f"text_1 has {len(queries)} texts and text_2 has {len(documents)}: "
                "one against many, or as many as each other",
                param="text_1",
            )
        return [
            self._call(query, [document], body)
            for query, document in zip(queries, documents, strict=True)
        ]

    def _call(self, query: str, documents: list[str], body: ScoreRequest) -> RerankCall:
        return RerankCall(query, documents, body.instruction, self._limits.truncate)


def _several(given: OneOrMany | None, param: str) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not texts:
        raise ServeError(ErrorCode.EMPTY_INPUT, f"{param} must not be empty", param=param)
    return texts
