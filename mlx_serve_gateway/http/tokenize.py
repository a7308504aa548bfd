"""Texts to token ids and back, in our shape and in those of vLLM, llama.cpp and TEI.

The same queues, limits and workers as everything else: a tokenizer can be made to work hard.
"""

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.calls import Call, DetokenizeCall, TokenizeCall
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.http.asked_priority import asked_priority
from mlx_serve_gateway.http.codec import decode, read_body
from mlx_serve_gateway.http.conversation_bounds import Messages
from mlx_serve_gateway.http.conversation_tokens import ConversationTokensApi
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.http.embedding_input import check_count, check_ids
from mlx_serve_gateway.http.model_choice import ModelChoice
from mlx_serve_gateway.http.token_answers import (
    DetokenizeAnswer,
    DetokenizedInput,
    DetokenizedText,
    LlamaCppToken,
    LlamaCppTokens,
    TeiToken,
    TokenizeAnswer,
    TokenizedInput,
    VllmTokens,
)
from mlx_serve_gateway.priority import Priority
from mlx_serve_gateway.services import Services

# Tokenizers take hundreds of times a text's size in memory while they work.
MAX_CHARACTERS = 1024 * 1024

C = TypeVar("C", bound=Call)


class TokenizeRequest(msgspec.Struct, kw_only=True):
    model: str | None = None
    input: str | list[str] | None = None
    prompt: str | None = None
    messages: Messages[Any] | None = None
    content: str | None = None
    inputs: str | list[str] | None = None
    add_special_tokens: bool | None = None
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None
    return_token_strs: bool | None = None
    prompt_name: str | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    model: str | None = None
    tokens: list[int | list[int]] | None = None
    token_ids: list[int | list[int]] | None = None
    ids: list[int | list[int]] | None = None
    skip_special_tokens: bool | None = None


_tokenize = msgspec.json.Decoder(TokenizeRequest)
_detokenize = msgspec.json.Decoder(DetokenizeRequest)


class TokenizeApi:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._limits = services.config.limits
        self._models = ModelChoice(services)
        self._conversations = ConversationTokensApi(services)

    async def tokenize(self, request: Request) -> Response:
        """The answer has the shape that the request's keys ask for."""
        content = await read_body(request, self._limits.max_body_bytes)
        body = decode(_tokenize, content)
        if body.messages is not None:
            return await self._conversations.tokenize(request, content)
        if body.prompt is not None:
            return await self._vllm(request, body, body.prompt)
        if body.content is not None:
            return await self._llama_cpp(request, body, body.content)
        if body.inputs is not None:
            return await self._tei(request, body, body.inputs)
        return await self._own(request, body)

    async def detokenize(self, request: Request) -> Response:
        """For /v1/detokenize: a list of texts."""
        body = await self._detokenize_request(request)
        model, call = await self._detokenized(request, body, _id_lists(body))
        data = [DetokenizedInput(index, text) for index, text in enumerate(call.texts)]
        return json_response(DetokenizeAnswer(data, model.name))

    async def detokenize_one(self, request: Request) -> Response:
        """For /detokenize: vLLM reads ``prompt``, llama.cpp ``content``."""
        body = await self._detokenize_request(request)
        lists = _id_lists(body)
        if len(lists) > 1:
            raise _invalid("tokens", "is one list of ids here; /v1/detokenize takes several")
        _, call = await self._detokenized(request, body, lists)
        (text,) = call.texts
        return json_response(DetokenizedText(prompt=text, content=text))

    async def decode(self, request: Request) -> Response:
        """For TEI's /decode, which leaves special tokens out unless told otherwise."""
        body = await self._detokenize_request(request)
        skips = body.skip_special_tokens is not False
        _, call = await self._detokenized(request, body, _id_lists(body), skip_special=skips)
        return json_response(call.texts)

    async def _own(self, request: Request, body: TokenizeRequest) -> Response:
        if body.input is None:
            raise _invalid("input", "is required")
        texts = self._texts(body.input, "input")
        call = TokenizeCall(texts, special=body.add_special_tokens is not False)
        model = await self._computed(request, body.model, call)
        data = [TokenizedInput(i, len(tokens), tokens) for i, tokens in enumerate(call.tokens)]
        return json_response(TokenizeAnswer(data, model.name))

    async def _vllm(self, request: Request, body: TokenizeRequest, prompt: str) -> Response:
        call = TokenizeCall(
            self._texts(prompt, "prompt"),
            special=body.add_special_tokens is not False,
            pieces=bool(body.return_token_strs),
        )
        model = await self._computed(request, body.model, call)
        strings = [piece.token for piece in call.pieces[0]] if body.return_token_strs else None
        answer = VllmTokens(
            count=len(call.tokens[0]),
            max_model_len=model.manifest.max_tokens,
            tokens=call.tokens[0],
            token_strs=strings,
        )
        return json_response(answer)

    async def _llama_cpp(self, request: Request, body: TokenizeRequest, content: str) -> Response:
        if body.parse_special is False:
            raise _unsupported("parse_special", "special tokens in a text are always read as such")
        call = TokenizeCall(
            self._texts(content, "content"),
            special=bool(body.add_special),
            pieces=bool(body.with_pieces),
        )
        await self._computed(request, body.model, call)
        (tokens,) = call.tokens
        if not body.with_pieces:
            return json_response(LlamaCppTokens(tokens))
        pieces = zip(tokens, call.pieces[0], strict=True)
        return json_response(
            LlamaCppTokens([LlamaCppToken(id, piece.text) for id, piece in pieces])
        )

    async def _tei(
        self, request: Request, body: TokenizeRequest, inputs: str | list[str]
    ) -> Response:
        if body.prompt_name is not None:
            raise _unsupported("prompt_name", "is not supported here; put the prompt into the text")
        special = body.add_special_tokens is not False
        call = TokenizeCall(self._texts(inputs, "inputs"), special=special, pieces=True)
        await self._computed(request, body.model, call)
        answer = [
            [
                TeiToken(
                    id=id,
                    text=piece.text,
                    special=piece.special,
                    start=None if piece.special else piece.start,
                    stop=None if piece.special else piece.stop,
                )
                for id, piece in zip(tokens, pieces, strict=True)
            ]
            for tokens, pieces in zip(call.tokens, call.pieces, strict=True)
        ]
        return json_response(answer)

    async def _detokenize_request(self, request: Request) -> DetokenizeRequest:
        return decode(_detokenize, await read_body(request, self._limits.max_body_bytes))

    async def _detokenized(
        self,
        request: Request,
        body: DetokenizeRequest,
        lists: list[list[int]],
        *,
        skip_special: bool | None = None,
    ) -> tuple[InstalledModel, DetokenizeCall]:
        check_count(len(lists), self._limits.max_inputs, "tokens")
        if skip_special is None:
            skip_special = bool(body.skip_special_tokens)
        call = DetokenizeCall(lists, skip_special=skip_special)
        return await self._computed(request, body.model, call), call

    async def _computed(self, request: Request, name: str | None, call: Call) -> InstalledModel:
        model = await self._models.find(request, name)
        if asked_priority(request) is Priority.BULK:
            call.priority = Priority.BULK
        with self._services.pool.lease(model, call) as lane:
            await unless_gone(request.scope, lane.answer(call))
        return model

    def _texts(self, given: str | list[str], param: str) -> list[str]:
        texts = [given] if isinstance(given, str) else given
        if not texts:
            raise ServeError(ErrorCode.EMPTY_INPUT, f"{param} must not be empty", param=param)
        check_count(len(texts), self._limits.max_inputs, param)
        longest = max(map(len, texts))
        if longest > MAX_CHARACTERS:
            raise ServeError(
                ErrorCode.CONTEXT_LENGTH_EXCEEDED,
                f"{param}: {longest} characters are more than {MAX_CHARACTERS}; split the text",
                param=param,
            )
        return texts


def _id_lists(body: DetokenizeRequest) -> list[list[int]]:
    names = ("tokens", "token_ids", "ids")
    name = next((name for name in names if getattr(body, name) is not None), None)
    if name is None:
        raise _invalid("tokens", "is required")
    given: list[int | list[int]] = getattr(body, name)
    kinds = set(map(type, given))
    if len(kinds) > 1:
        raise _invalid(name, "is either a list of ids or a list of lists of ids")
    lists: list[list[int]] = given if kinds == {list} else [given]  # type: ignore[assignment,list-item]
    check_ids(lists, name)
    return lists


def _unsupported(param: str, why: str) -> ServeError:
    return ServeError(ErrorCode.UNSUPPORTED_PARAMETER, f"{param}: {why}", param=param)


def _invalid(param: str, why: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, f"{param}: {why}", param=param)
