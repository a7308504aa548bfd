"""Has a chat model answer, for every API that chats: which model, and what it says as it says it.

Invariants: a model is kept in memory for as long as its answer is listened to; who stops listening
stops the answer.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import monotonic

import msgspec
from starlette.requests import Request

from mlx_serve_common.chat import Finish, SaidToken, ToolCall
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_gateway.generate_call import GenerateCall, Said
from mlx_serve_gateway.http.disconnect import unless_gone
from mlx_serve_gateway.http.model_choice import ModelChoice
from mlx_serve_gateway.services import Services

HEARTBEAT_S = 10.0
"""A silence of that length is broken, or something between us and the client closes the line."""


class Answer(msgspec.Struct):
    """One answer, as far as it was said."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = []
    tokens: list[SaidToken] = []
    finish: Finish | None = None

    def add(self, said: Said) -> None:
        delta = said.delta
        self.text += delta.text
        self.reasoning += delta.reasoning
        self.calls += delta.calls
        self.tokens += delta.tokens
        self.finish = delta.finish or self.finish

    @property
    def ended(self) -> Finish:
        assert self.finish is not None, "a call is done when all its answers are finished"
        return self.finish


class Heard(ABC):
    """Answers that can be listened to."""

    size: int
    """How many there are."""

    @abstractmethod
    def pieces(self) -> AsyncGenerator[list[Said]]:
        """What is said, when it is; nothing after a silence of ``HEARTBEAT_S``."""

    async def whole(self, request: Request) -> list[Answer]:
        """The answers, when all of them are finished."""
        answers = [Answer() for _ in range(self.size)]

        async def listen() -> None:
            async with aclosing(self.pieces()) as pieces:
                async for said in pieces:
                    for each in said:
                        answers[each.choice].add(each)

        await unless_gone(request.scope, listen())
        return answers


class Hearing(Heard):
    """A call to a model, from the moment it is listened to."""

    def __init__(
        self, services: Services, model: InstalledModel, call: GenerateCall, ttl_s: float | None
    ) -> None:
        self.model = model
        self.call = call
        self.size = call.size
        self.load_s = 0.0
        """What loading the model took of the time."""
        self._pool = services.pool
        self._ttl_s = ttl_s

    async def pieces(self) -> AsyncGenerator[list[Said]]:
        started = monotonic()
        with (
            self._pool.lease(self.model, self.call, ttl_s=self._ttl_s) as lane,
            lane.asked(self.call),
        ):
            async with aclosing(self.call.hear_all(HEARTBEAT_S)) as heard:
                async for said in heard:
                    if lane.ready_since is not None:
                        self.load_s = max(0.0, lane.ready_since - started)
                    yield said


class ChatModels:
    """Which chat model a request is for.

    The default, if it names none; where the configuration says so, the default also stands for
    unknown names, as long as there is no other chat model that could be meant.
    """

    def __init__(self, services: Services) -> None:
        self._chat = services.config.chat
        self._registry = services.registry
        self._models = ModelChoice(services)

    async def find(self, request: Request, name: str | None) -> InstalledModel:
        default = self._chat.default_model
        try:
            return await self._models.find(request, name, ModelKind.CHAT)
        except ServeError as error:
            is_unknown = error.code is ErrorCode.MODEL_NOT_FOUND and name is not None
            if not is_unknown or default is None or not self._stands_for_unknown(default):
                raise
        return await self._models.find(request, default, ModelKind.CHAT)

    def _stands_for_unknown(self, default: str) -> bool:
        if not self._chat.default_for_unknown:
            return False
        others = [model for model in self._registry.models() if model.kind is ModelKind.CHAT]
        try:
            return others == [self._registry.find(default)]
        except ServeError:
            return not others
