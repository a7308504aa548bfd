"""POST /v1/embeddings."""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.calls import EmbedCall, EmbedOptions
from mlx_serve_gateway.http.answers import computed_headers
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.services import Services


class EmbeddingRequest(msgspec.Struct):
    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


_decoder = msgspec.json.Decoder(EmbeddingRequest)


class EmbeddingsApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._limits = services.config.limits

    async def create(self, request: Request) -> Response:
        body = decode(_decoder, await read_body(request, self._limits.max_body_bytes))
        model = self._services.registry.find_kind(body.model, ModelKind.EMBEDDING)
        texts = _texts(body.input, self._limits.max_inputs)
        if body.dimensions is not None and body.dimensions != model.manifest.dimensions:
            raise ServeError(
                ErrorCode.UNSUPPORTED_PARAMETER,
                f"dimensions: this model gives {model.manifest.dimensions} dimensions only",
                param="dimensions",
            )
        encoding = body.encoding_format or "float"
        call = EmbedCall(texts, EmbedOptions(encoding=encoding, truncate=self._limits.truncate))
        with self._services.pool.lease(model) as lane:
            await unless_gone(request.receive, lane.answer(call))
        return Response(
            b"".join(_rendered(call, model.name)),
            headers=computed_headers(call.compute_s, call.truncated),
            media_type="application/json",
        )


def _texts(given: str | list[Any], max_inputs: int) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not texts:
        raise ServeError(ErrorCode.EMPTY_INPUT, "input must not be an empty list", param="input")
    if len(texts) > max_inputs:
        raise ServeError(
            ErrorCode.TOO_MANY_INPUTS,
            f"{len(texts)} inputs are more than the {max_inputs} allowed in one request",
            param="input",
        )
    if not all(isinstance(text, str) for text in texts):
        raise ServeError(
            ErrorCode.UNSUPPORTED_PARAMETER,
            "input: token ids are not accepted, send the text itself "
            "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))",
            param="input",
        )
    return texts


def _rendered(call: EmbedCall, model: str) -> Iterator[bytes]:
    """The answer around vectors that the worker has rendered: bytes are joined, nothing parsed."""
    yield b'{"object":"list","data":['
    for index, vector in enumerate(call.vectors):
        comma = b"," if index else b""
        yield b'%b{"object":"embedding","index":%d,"embedding":%b}' % (comma, index, vector)
    usage = EmbeddingUsage(call.tokens, call.tokens)
    yield b'],"model":%b,"usage":%b' % (msgspec.json.encode(model), msgspec.json.encode(usage))
    if call.truncated:
        yield b',"truncated_inputs":%d' % call.truncated
    yield b"}"
