"""Reranking, in the dialects of Jina, Cohere (v1 and v2), Voyage and TEI.

One computation with several shapes around it: the path and the keys of a request decide which
answer it gets. Scores are sorted here, because no client sorts.
"""

import secrets
from collections.abc import Sequence
from typing import Any

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
from mlx_serve_gateway.services import Services

MAX_QUERY_CHARACTERS = 32 * 1024


class RerankRequest(msgspec.Struct, kw_only=True):
    query: str
    model: str | None = None
    documents: list[str | dict[str, Any]] | None = None
    texts: list[str] | None = None
    """TEI's name for the documents; asks for TEI's answer."""
    top_n: int | None = None
    top_k: int | None = None
    """Voyage's name for top_n; asks for Voyage's answer besides."""
    return_documents: bool | None = None
    return_text: bool | None = None
    """Ours: adds a yes or no to each result. TEI's: adds the text."""
    decision_threshold: float | None = None
    instruction: str | None = None
    raw_scores: bool | None = None
    keep_alive: KeepAlive = None
    """Ollama's: how long the model stays loaded."""


class RerankedDocument(msgspec.Struct):
    text: str


class RerankResult(msgspec.Struct, omit_defaults=True):
    index: int
    relevance_score: float
    document: RerankedDocument | None = None
    text_output: str | None = None


class TeiResult(msgspec.Struct, omit_defaults=True):
    index: int
    score: float
    text: str | None = None


class RerankUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


class ApiVersion(msgspec.Struct):
    version: str


class BilledUnits(msgspec.Struct):
    search_units: int


class RerankTokens(msgspec.Struct):
    input_tokens: int
    output_tokens: int


class RerankMeta(msgspec.Struct):
    """Cohere's clients read it."""

    api_version: ApiVersion
    billed_units: BilledUnits
    tokens: RerankTokens


class RerankAnswer(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str
    object: str
    model: str
    results: list[RerankResult]
    data: list[RerankResult] | None = None
    usage: RerankUsage
    meta: RerankMeta
    truncated_documents: int = 0


_decoder = msgspec.json.Decoder(RerankRequest)


class RerankApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._limits = services.config.limits
        self._models = ModelChoice(services)

    async def rerank(self, request: Request) -> Response:
        """Jina's paths and Cohere's first: documents come back unless that is declined."""
        return await self._answer(request, returns_documents=True)

    async def rerank_v2(self, request: Request) -> Response:
        return await self._answer(request, returns_documents=False)

    async def _answer(self, request: Request, *, returns_documents: bool) -> Response:
        body = decode(_decoder, await read_body(request, self._limits.max_body_bytes))
        call = self._call(body)
        ttl_s = keep_alive_s(body.keep_alive)
        model = await self._models.find(request, body.model, ModelKind.RERANKER)
        call.priority = asked_priority(request)
        with self._services.pool.lease(model, call, ttl_s=ttl_s) as lane:
            await unless_gone(request.scope, lane.answer(call))
        ranked = _ranked(call, bool(body.raw_scores), body.top_n or body.top_k)
        headers = computed_headers(call.compute_s, call.truncated)
        if body.texts is not None:
            shown = call.documents if body.return_text else None
            return json_response(_tei(ranked, shown), headers=headers)
        keeps = returns_documents if body.return_documents is None else body.return_documents
        answer = _standard(call, ranked, model.name, body, keeps)
        return json_response(answer, headers=headers)

    def _call(self, body: RerankRequest) -> RerankCall:
        documents = _documents(body)
        if len(documents) > self._limits.max_documents:
            raise ServeError(
                ErrorCode.TOO_MANY_INPUTS,
                f"{len(documents)} documents are more than the {self._limits.max_documents} "
                "allowed in one request",
                param="documents",
            )
        check_query(body.query)
        for name, count in (("top_n", body.top_n), ("top_k", body.top_k)):
            if count is not None and count < 0:
                raise _invalid(name, "must not be negative")
        threshold = body.decision_threshold
        if threshold is not None and not 0 <= threshold <= 1:
            raise _invalid("decision_threshold", "must be between 0 and 1")
        return RerankCall(body.query, documents, body.instruction, self._limits.truncate)


def check_query(query: str) -> None:
    if len(query) > MAX_QUERY_CHARACTERS:
        raise ServeError(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"query: {len(query)} characters are more than {MAX_QUERY_CHARACTERS}",
            param="query",
        )


def _documents(body: RerankRequest) -> list[str]:
    name = "documents" if body.texts is None else "texts"
    given: Sequence[str | dict[str, Any]] | None = body.documents or body.texts
    if given is None and body.documents is None:
        raise _invalid(name, "is required")
    if not given:
        raise ServeError(ErrorCode.EMPTY_INPUT, f"{name} must not be empty", param=name)
    return [_text(document, index) for index, document in enumerate(given)]


def _text(document: str | dict[str, Any], index: int) -> str:
    text = document if isinstance(document, str) else document.get("text")
    if not isinstance(text, str):
        raise _invalid("documents", f'[{index}] is neither a string nor an object with a "text"')
    return text


def _ranked(call: RerankCall, raw: bool, most: int | None) -> list[tuple[int, float]]:
    """Best first; equal scores keep the order of the request."""
    scores = call.raw_scores if raw else call.scores
    ranked = sorted(enumerate(scores), key=lambda pair: -pair[1])
    return ranked[: most or None]


def _standard(
    call: RerankCall,
    ranked: list[tuple[int, float]],
    model: str,
    body: RerankRequest,
    keeps_documents: bool,
) -> RerankAnswer:
    threshold = 0.5 if body.decision_threshold is None else body.decision_threshold
    results = [
        RerankResult(
            index,
            score,
            RerankedDocument(call.documents[index]) if keeps_documents else None,
            ("yes" if call.scores[index] >= threshold else "no") if body.return_text else None,
        )
        for index, score in ranked
    ]
    return RerankAnswer(
        id=f"rerank-{secrets.token_hex(12)}",
        object="list",
        model=model,
        results=results,
        data=results if body.top_k is not None else None,
        usage=RerankUsage(call.tokens, call.tokens),
        meta=RerankMeta(ApiVersion("2"), BilledUnits(1), RerankTokens(call.tokens, 0)),
        truncated_documents=call.truncated,
    )


def _tei(ranked: list[tuple[int, float]], texts: list[str] | None) -> list[TeiResult]:
    return [TeiResult(index, score, texts[index] if texts else None) for index, score in ranked]


def _invalid(param: str, why: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, f"{param}: {why}", param=param)
