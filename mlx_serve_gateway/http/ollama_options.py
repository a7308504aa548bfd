"""What an Ollama request says of how to answer: ``options``, ``format``, ``think``, ``logprobs``.

Invariants: null and options that are not here change nothing; numbers come as Go reads them, so a
whole one may be written ``128.0``, and what is not above 0 lifts a limit.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_serve_common.chat import Sampling
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.http.reasoning import Reasoning, reasoning
from mlx_serve_gateway.http.response_format import ANY_OBJECT, encoded
from mlx_serve_gateway.http.sampling_request import MOST_LOGPROBS, Share

_Whole = (
    Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Annotated[float, Meta(ge=-(2**53), le=2**53)]
)
_Penalty = Annotated[float, Meta(ge=-2, le=2)]

Think = bool | Literal["low", "medium", "high", "max"] | None
Format = str | dict[str, Any] | None

_MOST_STOPS = 64


class Options(msgspec.Struct, kw_only=True):
    num_predict: _Whole | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Share | None = None
    top_k: _Whole | None = None
    min_p: Share | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    seed: _Whole | None = None
    stop: str | Annotated[list[str], Meta(max_length=_MOST_STOPS)] | None = None


class OllamaWishes(msgspec.Struct, kw_only=True):
    """What /api/chat and /api/generate have in common of this."""

    options: Options | None = None
    format: Format = None
    think: Think = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def sampling(self) -> Sampling:
        options = self.options or Options()
        stop = [options.stop] if isinstance(options.stop, str) else options.stop or []
        return Sampling(
            max_tokens=_above_zero(options.num_predict),
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=0 if options.top_k is not None and options.top_k < 0 else _whole(options.top_k),
            min_p=options.min_p,
            repetition_penalty=options.repeat_penalty,
            presence_penalty=options.presence_penalty,
            frequency_penalty=options.frequency_penalty,
            seed=None if options.seed is None or options.seed < 0 else int(options.seed),
            stop=[text for text in stop if text],
            top_logprobs=self._top_logprobs(),
            json_schema=_schema(self.format),
        )

    def reasoning(self, model: InstalledModel) -> Reasoning:
        if isinstance(self.think, str):
            return reasoning(model, self.think, param="think")
        return reasoning(model, None, self.think, param="think")

    def _top_logprobs(self) -> int | None:
        wanted = self.top_logprobs or 0
        if not 0 <= wanted <= MOST_LOGPROBS:
            message = f"top_logprobs must be between 0 and {MOST_LOGPROBS}"
            raise ServeError(ErrorCode.INVALID_REQUEST, message, param="top_logprobs")
        return wanted if self.logprobs else None


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _above_zero(number: float | None) -> int | None:
    return None if number is None or number < 1 else int(number)


def _schema(wanted: Format) -> str | None:
    if not wanted:
        return None
    if isinstance(wanted, dict):
        return encoded(wanted)
    if wanted != "json":
        message = f'format: {wanted[:64]!r} is neither "json" nor a JSON schema'
        raise ServeError(ErrorCode.INVALID_REQUEST, message, param="format")
    return ANY_OBJECT
