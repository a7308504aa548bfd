"""POST /api/embed and /api/embeddings: the vectors of /v1/embeddings in Ollama's shape.

Without anything to embed they load the model, or let it go when ``keep_alive`` is 0.
"""

from collections.abc import Iterator
from time import monotonic

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel, Manifest, ModelKind
from mlx_serve_gateway.calls import Call, EmbedCall, EmbedOptions
from mlx_serve_gateway.http.answers import computed_headers
from mlx_serve_gateway.http.asked_priority import asked_priority
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.http.durations import KeepAlive, keep_alive_s, nanoseconds
from mlx_serve_gateway.http.embedding_input import read_input
from mlx_serve_gateway.http.loading import Loading
from mlx_serve_gateway.http.model_choice import ModelChoice
from mlx_serve_gateway.http.ollama_models import required_name
from mlx_serve_gateway.http.truncation import choose_truncation
from mlx_serve_gateway.services import Services


class EmbedRequest(msgspec.Struct, kw_only=True):
    model: str | None = None
    name: str | None = None
    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: KeepAlive = None


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    model: str | None = None
    name: str | None = None
    prompt: str | None = None
    keep_alive: KeepAlive = None


_embed = msgspec.json.Decoder(EmbedRequest)
_embeddings = msgspec.json.Decoder(EmbeddingsRequest)


class OllamaEmbedApi:
    def __init__(self, services: Services) -> None:
        self._pool = services.pool
        self._limits = services.config.limits
        self._loading = Loading(services.pool)
        self._models = ModelChoice(services)

    async def embed(self, request: Request) -> Response:
        started = monotonic()
        body = decode(_embed, await read_body(request, self._limits.max_body_bytes))
        name = required_name(body.model or body.name)
        ttl_s = keep_alive_s(body.keep_alive)
        model = await self._models.find(request, name, ModelKind.EMBEDDING)
        vectors: list[bytes] = []
        tokens = truncated = 0
        compute_s = load_s = 0.0
        if not body.input:
            load_s = await self._loading.load(request, model, ttl_s)
        else:
            given = read_input(body.input, "model", self._limits.max_inputs)
            options = EmbedOptions(
                truncate=choose_truncation(body.truncate, self._limits.truncate),
                dimensions=_dimensions(body.dimensions, model.manifest),
            )
            call = EmbedCall(given.inputs, options)
            load_s = await self._compute(request, model, call, ttl_s)
            vectors, tokens, truncated = call.vectors, call.tokens, call.truncated
            compute_s = call.compute_s
        facts = {
            "total_duration": nanoseconds(monotonic() - started),
            "load_duration": nanoseconds(load_s),
            "prompt_eval_count": tokens,
        }
        content = b"".join(_answer(name, vectors, facts))
        headers = computed_headers(compute_s, truncated)
        return Response(content, headers=headers, media_type="application/json")

    async def embeddings(self, request: Request) -> Response:
        """The older endpoint: one text, one vector."""
        body = decode(_embeddings, await read_body(request, self._limits.max_body_bytes))
        name = required_name(body.model or body.name)
        ttl_s = keep_alive_s(body.keep_alive)
        model = await self._models.find(request, name, ModelKind.EMBEDDING)
        vector = b"[]"
        if not body.prompt:
            await self._loading.load(request, model, ttl_s)
        else:
            truncate = choose_truncation(None, self._limits.truncate)
            call = EmbedCall([body.prompt], EmbedOptions(truncate=truncate))
            await self._compute(request, model, call, ttl_s)
            (vector,) = call.vectors
        return Response(b'{"embedding":%b}' % vector, media_type="application/json")

    async def _compute(
        self, request: Request, model: InstalledModel, call: Call, ttl_s: float | None
    ) -> float:
        """The seconds that loading took of it."""
        started = monotonic()
        call.priority = asked_priority(request)
        try:
            with self._pool.lease(model, call, ttl_s=ttl_s) as lane:
                await unless_gone(request.scope, lane.answer(call))
                return max(0.0, (lane.ready_since or started) - started)
        except ServeError as error:
            raise _in_ollamas_words(error) from None


def _dimensions(asked: int | None, manifest: Manifest) -> int | None:
    """Ollama takes 0 for unset, and leaves a vector as it is that is not longer."""
    if asked is not None and asked < 0:
        raise ServeError(
            ErrorCode.INVALID_REQUEST, "dimensions: must not be negative", param="dimensions"
        )
    if not asked or (manifest.dimensions is not None and asked >= manifest.dimensions):
        return None
    return asked


def _in_ollamas_words(error: ServeError) -> ServeError:
    if error.code is not ErrorCode.CONTEXT_LENGTH_EXCEEDED:
        return error
    message = f"the input length exceeds the context length: {error.message}"
    return ServeError(error.code, message, param=error.param)


def _answer(model: str, vectors: list[bytes], facts: dict[str, int]) -> Iterator[bytes]:
    yield b'{"model":%b,"embeddings":[' % msgspec.json.encode(model)
    yield b",".join(vectors)
    yield b"]," + msgspec.json.encode(facts)[1:]
