"""Embedding, reranking, scoring and counting tokens."""

from mlx_serve_gateway.http.contract.embedding_shapes import (
    EmbeddingBody,
    EmbeddingList,
    TeiEmbedBody,
)
from mlx_serve_gateway.http.contract.endpoint import Endpoint, json_answer
from mlx_serve_gateway.http.contract.refusals import INFERENCE
from mlx_serve_gateway.http.contract.token_shapes import TokenizeBody
from mlx_serve_gateway.http.rerank import RerankAnswer, RerankRequest, TeiResult
from mlx_serve_gateway.http.score import ScoreAnswer, ScoreRequest
from mlx_serve_gateway.http.token_answers import (
    DetokenizeAnswer,
    DetokenizedText,
    LlamaCppTokens,
    TeiToken,
    TokenizeAnswer,
    VllmTokens,
)
from mlx_serve_gateway.http.tokenize import DetokenizeRequest

ENDPOINTS = (
    Endpoint(
        method="POST",
        paths=("/v1/embeddings",),
        tag="embeddings",
        summary="Texts, or token ids, to vectors",
        body=EmbeddingBody,
        answers=(json_answer(EmbeddingList),),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/embed",),
        tag="embeddings",
        summary="The vectors alone, as text-embeddings-inference gives them",
        body=TeiEmbedBody,
        answers=(json_answer(list[list[float]]),),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/v1/rerank", "/rerank", "/v1/reranking", "/reranking", "/v2/rerank"),
        tag="reranking",
        summary="Documents sorted by how well they fit a query",
        body=RerankRequest,
        answers=(json_answer(RerankAnswer), json_answer(list[TeiResult])),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/v1/score", "/score"),
        tag="reranking",
        summary="How well each pair of texts fits together",
        body=ScoreRequest,
        answers=(json_answer(ScoreAnswer),),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/v1/tokenize", "/tokenize"),
        tag="tokens",
        summary="Texts, or a conversation, to token ids",
        body=TokenizeBody,
        answers=(
            json_answer(TokenizeAnswer),
            json_answer(VllmTokens),
            json_answer(LlamaCppTokens),
            json_answer(list[list[TeiToken]]),
        ),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/v1/detokenize",),
        tag="tokens",
        summary="Lists of token ids to texts",
        body=DetokenizeRequest,
        answers=(json_answer(DetokenizeAnswer),),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/detokenize",),
        tag="tokens",
        summary="One list of token ids to its text, as vLLM and llama.cpp give it",
        body=DetokenizeRequest,
        answers=(json_answer(DetokenizedText),),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/decode",),
        tag="tokens",
        summary="Lists of token ids to texts, as text-embeddings-inference gives them",
        body=DetokenizeRequest,
        answers=(json_answer(list[str]),),
        refusals=INFERENCE,
    ),
)
