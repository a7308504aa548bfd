"""The ASGI application: routes, and what becomes of an error that a handler raises."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.access import Access, Handler
from mlx_serve_gateway.http.admin import AdminApi
from mlx_serve_gateway.http.anthropic import AnthropicApi
from mlx_serve_gateway.http.body_deadline import BodyDeadline
from mlx_serve_gateway.http.browser_rules import BrowserRules
from mlx_serve_gateway.http.chat_completions import ChatCompletionsApi
from mlx_serve_gateway.http.completions import CompletionsApi
from mlx_serve_gateway.http.conversation_tokens import ConversationTokensApi
from mlx_serve_gateway.http.embeddings import EmbeddingsApi
from mlx_serve_gateway.http.endpoint_label import endpoint_labels
from mlx_serve_gateway.http.endpoints import Endpoints
from mlx_serve_gateway.http.errors import error_response
from mlx_serve_gateway.http.guard import Guard
from mlx_serve_gateway.http.health import HealthApi
from mlx_serve_gateway.http.in_flight import InFlight
from mlx_serve_gateway.http.job_list import JobsApi
from mlx_serve_gateway.http.model_list import ModelsApi
from mlx_serve_gateway.http.ollama_chat import OllamaChatApi
from mlx_serve_gateway.http.ollama_embed import OllamaEmbedApi
from mlx_serve_gateway.http.ollama_generate import OllamaGenerateApi
from mlx_serve_gateway.http.ollama_models import OllamaModelsApi
from mlx_serve_gateway.http.ollama_pull import OllamaPullApi
from mlx_serve_gateway.http.ollama_store import OllamaStoreApi
from mlx_serve_gateway.http.openapi import openapi
from mlx_serve_gateway.http.prometheus import PrometheusApi
from mlx_serve_gateway.http.quantize import QuantizeApi
from mlx_serve_gateway.http.request_head import RequestHead
from mlx_serve_gateway.http.rerank import RerankApi
from mlx_serve_gateway.http.responses import ResponsesApi
from mlx_serve_gateway.http.score import ScoreApi
from mlx_serve_gateway.http.tokenize import TokenizeApi
from mlx_serve_gateway.http.traced import Traced
from mlx_serve_gateway.services import Services

log = logging.getLogger(__name__)


def build_app(services: Services, on_started: Callable[[], None] = lambda: None) -> ASGIApp:
    @asynccontextmanager
    async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
        on_started()
        yield

    served = routes(services)
    app = Endpoints(served, lifespan, _told)
    limits = services.config.limits
    bounded = InFlight(BodyDeadline(app, limits.body_timeout), limits)
    ruled = RequestHead(BrowserRules(bounded, services.config.server), limits.max_header_bytes)
    endpoint_of = endpoint_labels(served)

    def count(path: str, status: int, seconds: float, size: int) -> None:
        services.metrics.request(endpoint_of(path), status, seconds, size)

    guarded = Guard(ruled, services.lifecycle, count)
    if services.tracing is None:
        return guarded
    return Traced(guarded, services.tracing, endpoint_of)


def routes(services: Services) -> list[Route]:
    embeddings = EmbeddingsApi(services)
    reranking = RerankApi(services)
    scoring = ScoreApi(services)
    tokens = TokenizeApi(services)
    models = ModelsApi(services)
    anthropic = AnthropicApi(services)
    health = HealthApi(services)
    access = Access(services.config.server, services.controls.own_key)
    return [
        *_route("POST", "/v1/embeddings", embeddings.create),
        *_route("POST", "/embed", embeddings.tei),
        *_route("POST", "/v1/rerank", reranking.rerank),
        *_route("POST", "/rerank", reranking.rerank),
        *_route("POST", "/v1/reranking", reranking.rerank),
        *_route("POST", "/reranking", reranking.rerank),
        *_route("POST", "/v2/rerank", reranking.rerank_v2),
        *_route("POST", "/v1/score", scoring.score),
        *_route("POST", "/score", scoring.score),
        *_route("POST", "/v1/tokenize", tokens.tokenize),
        *_route("POST", "/tokenize", tokens.tokenize),
        *_route("POST", "/v1/detokenize", tokens.detokenize),
        *_route("POST", "/detokenize", tokens.detokenize_one),
        *_route("POST", "/decode", tokens.decode),
        *_chat_routes(services),
        *_route("POST", "/v1/messages", anthropic.create),
        *_route("POST", "/v1/messages/count_tokens", anthropic.count_tokens),
        *_route("GET", "/v1/models", models.list),
        Route("/v1/models/{id:path}", models.get, methods=["GET"]),
        Route("/", health.root, methods=["GET"]),
        *_route("GET", "/health", health.health),
        *_route("GET", "/health/detail", access.to_look(health.detail)),
        *_metrics_route(services, access),
        *_route("GET", "/livez", health.live),
        *_route("GET", "/readyz", health.ready),
        Route("/openapi.json", openapi, methods=["GET"]),
        *_admin_routes(services, access),
        *_ollama_routes(services, access),
    ]


def _admin_routes(services: Services, access: Access) -> list[Route]:
    admin = AdminApi(services)
    return [
        *_route("POST", "/admin/load", access.to_change(admin.load)),
        *_route("POST", "/admin/unload", access.to_change(admin.unload)),
        *_route("POST", "/admin/pin", access.to_change(admin.pin)),
        *_route("POST", "/admin/unpin", access.to_change(admin.unpin)),
        *_route("POST", "/admin/reload", access.to_change(admin.reload)),
        *_route("POST", "/admin/drain", access.to_change(admin.drain)),
        *_route("GET", "/admin/events", access.to_look(admin.events)),
    ]


def _chat_routes(services: Services) -> list[Route]:
    chat = ChatCompletionsApi(services)
    completions = CompletionsApi(services)
    tokens = ConversationTokensApi(services)
    return [
        *_route("POST", "/v1/chat/completions", chat.create),
        *_route("POST", "/chat/completions", chat.create),
        *_route("POST", "/v1/chat/completions/input_tokens", tokens.of_chat),
        *_route("POST", "/v1/completions", completions.create),
        *_route("POST", "/completions", completions.create),
        *_route("POST", "/v1/responses", ResponsesApi(services).create),
        *_route("POST", "/v1/responses/input_tokens", tokens.of_responses),
    ]


def _metrics_route(services: Services, access: Access) -> list[Route]:
    if not services.config.metrics.enabled:
        return []
    return _route("GET", "/metrics", access.to_look(PrometheusApi(services.metrics.text).metrics))


def _ollama_routes(services: Services, access: Access) -> list[Route]:
    models = OllamaModelsApi(services)
    vectors = OllamaEmbedApi(services)
    store = OllamaStoreApi(services)
    return [
        *_route("GET", "/api/version", models.version),
        *_route("GET", "/api/tags", models.tags),
        *_route("GET", "/api/ps", access.to_look(models.ps)),
        *_route("POST", "/api/show", access.to_look(models.show)),
        *_route("POST", "/api/chat", OllamaChatApi(services).chat),
        *_route("POST", "/api/generate", OllamaGenerateApi(services).generate),
        *_route("POST", "/api/embed", vectors.embed),
        *_route("POST", "/api/embeddings", vectors.embeddings),
        *_route("POST", "/api/pull", access.to_change(OllamaPullApi(services).pull)),
        *_route("POST", "/api/quantize", access.to_change(QuantizeApi(services).quantize)),
        *_route("GET", "/api/jobs", access.to_look(JobsApi(services).list)),
        *_route("DELETE", "/api/delete", access.to_change(store.delete)),
        *_route("POST", "/api/copy", access.to_change(store.copy)),
        *_route("POST", "/api/create", access.to_change(store.create)),
        *_route("POST", "/api/push", access.to_change(store.push)),
        *_route("POST", "/api/blobs/{digest:path}", access.to_change(store.blob)),
        *_route("HEAD", "/api/blobs/{digest:path}", access.to_change(store.blob)),
    ]


def _route(method: str, path: str, handler: Handler) -> list[Route]:
    return [Route(path + slash, handler, methods=[method]) for slash in ("", "/")]


def _told(scope: Scope, error: Exception) -> Response:
    path = scope["path"]
    if isinstance(error, ServeError):
        return error_response(error, path)
    if not isinstance(error, HTTPException):
        log.error("an unexpected error", exc_info=error)
        told = ServeError(ErrorCode.INTERNAL_ERROR, "an internal error; the server's log has more")
        return error_response(told, path)
    if error.status_code == 405:
        told = ServeError(ErrorCode.METHOD_NOT_ALLOWED, f"{scope['method']} is not allowed here")
    elif error.status_code == 404:
        told = ServeError(ErrorCode.UNKNOWN_URL, "there is nothing at this path")
    else:
        told = ServeError(ErrorCode.INVALID_REQUEST, "the request could not be understood")
    return error_response(told, path, dict(error.headers or {}))
