"""What is under /api, for Ollama's clients."""

from mlx_serve_common.errors import ErrorCode
from mlx_serve_gateway.http.contract.endpoint import Answer, Endpoint, json_answer, lines
from mlx_serve_gateway.http.contract.ollama_shapes import (
    ChatLine,
    EmbedAnswer,
    EmbeddingsAnswer,
    GenerateLine,
    ProgressLine,
)
from mlx_serve_gateway.http.contract.refusals import HUB, INFERENCE, STORE, UNKNOWN_MODEL
from mlx_serve_gateway.http.job_list import JobList
from mlx_serve_gateway.http.ollama_chat import OllamaChatRequest
from mlx_serve_gateway.http.ollama_embed import EmbeddingsRequest, EmbedRequest
from mlx_serve_gateway.http.ollama_entries import Shown
from mlx_serve_gateway.http.ollama_generate import GenerateRequest
from mlx_serve_gateway.http.ollama_models import LoadedModels, NamedModel, OllamaVersion, Tags
from mlx_serve_gateway.http.ollama_pull import PullRequest
from mlx_serve_gateway.http.ollama_store import CopyRequest
from mlx_serve_gateway.http.quantize import QuantizeRequest

_NOTHING = Answer(type=None)

ENDPOINTS = (
    Endpoint(
        method="GET",
        paths=("/api/version",),
        tag="Ollama",
        summary="The version of Ollama's API that this is like",
        answers=(json_answer(OllamaVersion),),
    ),
    Endpoint(
        method="GET",
        paths=("/api/tags",),
        tag="Ollama",
        summary="The installed models",
        answers=(json_answer(Tags),),
    ),
    Endpoint(
        method="GET",
        paths=("/api/ps",),
        tag="Ollama",
        summary="The models in memory",
        tier="owner",
        answers=(json_answer(LoadedModels),),
    ),
    Endpoint(
        method="POST",
        paths=("/api/show",),
        tag="Ollama",
        summary="All about an installed model",
        tier="owner",
        body=NamedModel,
        answers=(json_answer(Shown),),
        refusals=UNKNOWN_MODEL,
    ),
    Endpoint(
        method="POST",
        paths=("/api/chat",),
        tag="Ollama",
        summary="The answer to a conversation",
        body=OllamaChatRequest,
        answers=(lines(ChatLine), json_answer(ChatLine)),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/api/generate",),
        tag="Ollama",
        summary="The answer to a prompt",
        body=GenerateRequest,
        answers=(lines(GenerateLine), json_answer(GenerateLine)),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/api/embed",),
        tag="Ollama",
        summary="Texts to vectors",
        body=EmbedRequest,
        answers=(json_answer(EmbedAnswer),),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/api/embeddings",),
        tag="Ollama",
        summary="A text to its vector: the older endpoint",
        body=EmbeddingsRequest,
        answers=(json_answer(EmbeddingsAnswer),),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/api/pull",),
        tag="Ollama",
        summary="Download a model",
        tier="owner",
        body=PullRequest,
        answers=(lines(ProgressLine), json_answer(ProgressLine)),
        refusals=HUB | STORE,
    ),
    Endpoint(
        method="POST",
        paths=("/api/quantize",),
        tag="Ollama",
        summary="Make a quantized form of an installed model; ours",
        tier="owner",
        body=QuantizeRequest,
        answers=(lines(ProgressLine), json_answer(ProgressLine)),
        refusals=STORE | {ErrorCode.PULL_IN_PROGRESS, ErrorCode.UNSUPPORTED_PARAMETER},
    ),
    Endpoint(
        method="GET",
        paths=("/api/jobs",),
        tag="Ollama",
        summary="Downloads and conversions, running and recent; ours",
        tier="owner",
        answers=(json_answer(JobList),),
    ),
    Endpoint(
        method="DELETE",
        paths=("/api/delete",),
        tag="Ollama",
        summary="Remove a model",
        tier="owner",
        body=NamedModel,
        answers=(_NOTHING,),
        refusals=STORE,
    ),
    Endpoint(
        method="POST",
        paths=("/api/copy",),
        tag="Ollama",
        summary="Install a model under another name as well",
        tier="owner",
        body=CopyRequest,
        answers=(_NOTHING,),
        refusals=STORE,
    ),
    Endpoint(
        method="POST",
        paths=("/api/create", "/api/push", "/api/blobs/{digest}"),
        tag="Ollama",
        summary="Refused, with the reason",
        tier="owner",
        answers=(),
    ),
    Endpoint(
        method="HEAD",
        paths=("/api/blobs/{digest}",),
        tag="Ollama",
        summary="Refused",
        tier="owner",
        answers=(),
    ),
)
