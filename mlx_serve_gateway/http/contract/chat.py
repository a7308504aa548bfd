"""Whatever chats in the words of OpenAI and Anthropic."""

from mlx_serve_gateway.http.anthropic_request import CountRequest, MessagesRequest
from mlx_serve_gateway.http.contract.anthropic_shapes import (
    AnthropicMessage,
    MessageEvent,
    TokenCount,
)
from mlx_serve_gateway.http.contract.endpoint import Endpoint, event_stream, json_answer
from mlx_serve_gateway.http.contract.openai_shapes import (
    ChatBody,
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    CompletionBody,
    CompletionChunk,
    InputTokens,
)
from mlx_serve_gateway.http.contract.refusals import INFERENCE
from mlx_serve_gateway.http.contract.response_events import ResponseEvent
from mlx_serve_gateway.http.contract.responses_shapes import ModelResponse, ResponsesBody

ENDPOINTS = (
    Endpoint(
        method="POST",
        paths=("/v1/chat/completions", "/chat/completions"),
        tag="chat",
        summary="The answer to a conversation",
        body=ChatBody,
        answers=(json_answer(ChatCompletion), event_stream(ChatCompletionChunk)),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/v1/chat/completions/input_tokens",),
        tag="chat",
        summary="How many tokens a conversation has",
        body=ChatBody,
        answers=(json_answer(InputTokens),),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/v1/completions", "/completions"),
        tag="chat",
        summary="Texts continued as they stand",
        body=CompletionBody,
        answers=(json_answer(Completion), event_stream(CompletionChunk)),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/v1/responses",),
        tag="chat",
        summary="OpenAI's newer way to ask, without a memory of earlier answers",
        body=ResponsesBody,
        answers=(json_answer(ModelResponse), event_stream(ResponseEvent)),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/v1/responses/input_tokens",),
        tag="chat",
        summary="How many tokens such a request has",
        body=ResponsesBody,
        answers=(json_answer(InputTokens),),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/v1/messages",),
        tag="chat",
        summary="The answer to a conversation, as Anthropic's clients read it",
        body=MessagesRequest,
        answers=(json_answer(AnthropicMessage), event_stream(MessageEvent)),
        refusals=INFERENCE,
    ),
    Endpoint(
        method="POST",
        paths=("/v1/messages/count_tokens",),
        tag="chat",
        summary="How many tokens such a conversation has",
        body=CountRequest,
        answers=(json_answer(TokenCount),),
        refusals=INFERENCE,
    ),
)
