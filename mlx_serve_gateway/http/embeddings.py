"""POST /v1/embeddings (OpenAI's shape, with Jina's fields and ours) and /embed (TEI's)."""

from collections.abc import Iterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel, Manifest, ModelKind
from mlx_serve_common.wire import Encoding, Vocabulary
from mlx_serve_gateway.calls import EmbedCall, EmbedOptions
from mlx_serve_gateway.http.answers import computed_headers
from mlx_serve_gateway.http.asked_priority import asked_priority
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.http.durations import KeepAlive, keep_alive_s
from mlx_serve_gateway.http.embedding_input import read_input
from mlx_serve_gateway.http.fingerprints import Fingerprints
from mlx_serve_gateway.http.model_choice import ModelChoice
from mlx_serve_gateway.http.prompts import Asked, choose_prompt
from mlx_serve_gateway.http.truncation import choose_truncation
from mlx_serve_gateway.services import Services


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    model: str
    input: str | list[Any] | dict[str, Any]
    encoding_format: str | None = None
    dimensions: int | None = None
    # Jina's names (LlamaIndex says encoding_type)
    embedding_type: str | list[str] | None = None
    encoding_type: str | None = None
    normalized: bool | None = None
    late_chunking: bool | None = None
    task: str | None = None
    # Voyage's names
    output_dimension: int | None = None
    output_dtype: str | None = None
    truncation: bool | None = None
    # ours
    truncate: bool | str | None = None
    input_type: str | None = None
    prompt_name: str | None = None
    prompt: str | None = None
    token_input: Vocabulary | None = None
    # Ollama's
    keep_alive: KeepAlive = None


class TeiEmbedRequest(msgspec.Struct, kw_only=True):
    inputs: str | list[Any]
    model: str | None = None
    truncate: bool | None = None
    truncation_direction: str | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    dimensions: int | None = None


class EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


_decoder = msgspec.json.Decoder(EmbeddingRequest)
_tei_decoder = msgspec.json.Decoder(TeiEmbedRequest)


class EmbeddingsApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._limits = services.config.limits
        self._models = ModelChoice(services)
        self._fingerprints = Fingerprints()

    async def create(self, request: Request) -> Response:
        body = decode(_decoder, await read_body(request, self._limits.max_body_bytes))
        ttl_s = keep_alive_s(body.keep_alive)
        model = await self._models.find(request, body.model, ModelKind.EMBEDDING)
        vocabulary = body.token_input or self._limits.token_input
        given = read_input(body.input, vocabulary, self._limits.max_inputs)
        if body.late_chunking:
            raise _unsupported("late_chunking", "is not supported; send the chunks as inputs")
        asked = body.truncation if body.truncate is None else body.truncate
        options = EmbedOptions(
            encoding=_encoding(body),
            truncate=choose_truncation(asked, self._limits.truncate),
            prompt=_prompt(body, model.manifest),
            dimensions=_dimensions(
                body.output_dimension if body.dimensions is None else body.dimensions,
                model.manifest,
            ),
            normalize=body.normalized,
        )
        call = EmbedCall(given.inputs, options, given.vocabulary)
        await self._compute(request, model, call, ttl_s)
        return self._answer(_openai(call, model.name), call, model.manifest)

    async def tei(self, request: Request) -> Response:
        """The vectors alone, as text-embeddings-inference gives them."""
        body = decode(_tei_decoder, await read_body(request, self._limits.max_body_bytes))
        model = await self._models.find(request, body.model, ModelKind.EMBEDDING)
        given = read_input(body.inputs, "model", self._limits.max_inputs)
        asked = body.truncate if body.truncate is False else body.truncation_direction
        options = EmbedOptions(
            truncate=choose_truncation(
                body.truncate if asked is None else asked, self._limits.truncate
            ),
            prompt=choose_prompt(Asked(prompt_name=body.prompt_name), model.manifest),
            dimensions=_dimensions(body.dimensions, model.manifest),
            normalize=body.normalize is not False,
        )
        call = EmbedCall(given.inputs, options)
        await self._compute(request, model, call)
        return self._answer([b"[", b",".join(call.vectors), b"]"], call, model.manifest)

    async def _compute(
        self,
        request: Request,
        model: InstalledModel,
        call: EmbedCall,
        ttl_s: float | None = None,
    ) -> None:
        call.priority = asked_priority(request)
        with self._services.pool.lease(model, call, ttl_s=ttl_s) as lane:
            await unless_gone(request.scope, lane.answer(call))

    def _answer(
        self, body: Iterator[bytes] | list[bytes], call: EmbedCall, manifest: Manifest
    ) -> Response:
        headers = computed_headers(call.compute_s, call.truncated)
        headers["x-index-fingerprint"] = self._fingerprints.of(manifest, call.options)
        return Response(b"".join(body), headers=headers, media_type="application/json")


def _encoding(body: EmbeddingRequest) -> Encoding:
    if body.output_dtype not in (None, "float"):
        raise _unsupported("output_dtype", "is float; the vectors are not quantized")
    given: list[Encoding] = []
    for name in ("encoding_format", "embedding_type", "encoding_type"):
        match getattr(body, name):
            case None:
                pass
            case "float" | ["float"]:
                given.append("float")
            case "base64" | ["base64"]:
                given.append("base64")
            case _:
                raise _unsupported(name, "is float or base64")
    return given[0] if given else "float"


def _prompt(body: EmbeddingRequest, manifest: Manifest) -> str | None:
    asked = Asked(
        prompt=body.prompt,
        prompt_name=body.prompt_name,
        input_type=body.input_type,
        task=body.task,
    )
    return choose_prompt(asked, manifest)


def _dimensions(asked: int | None, manifest: Manifest) -> int | None:
    native = manifest.dimensions
    if asked is None or asked == native:
        return None
    if asked < 1 or (native is not None and asked > native):
        raise ServeError(
            ErrorCode.INVALID_REQUEST,
            f"dimensions: {asked} is not between 1 and {native}, which this model gives",
            param="dimensions",
        )
    return asked


def _openai(call: EmbedCall, model: str) -> Iterator[bytes]:
    """The answer around vectors that the worker has rendered: bytes are joined, nothing parsed."""
    start = b'{"object":"list","data":['
    for index, vector in enumerate(call.vectors):
        yield b'%b{"object":"embedding","index":%d,"embedding":' % (start, index)
        yield vector
        start = b"},"
    usage = EmbeddingUsage(call.tokens, call.tokens)
    yield b'}],"model":%b,"usage":%b' % (msgspec.json.encode(model), msgspec.json.encode(usage))
    if call.truncated:
        yield b',"truncated_inputs":%d' % call.truncated
    yield b"}"


def _unsupported(param: str, why: str) -> ServeError:
    return ServeError(ErrorCode.UNSUPPORTED_PARAMETER, f"{param}: {why}", param=param)
