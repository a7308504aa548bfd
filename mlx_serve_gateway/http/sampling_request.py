"""How to answer, as OpenAI's clients say it to /v1/chat/completions and /v1/completions.

Invariants: null is as good as absent; a number that is out of its range is refused, not bent; what
is not done and would change the answer is refused by name.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mlx_serve_common.chat import Sampling
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.durations import KeepAlive

MOST_CHOICES = 8
MOST_LOGPROBS = 20
_MOST_STOPS = 16
_MOST_BIASES = 4096

Count = Annotated[int, Meta(ge=1, le=2**53)]
Share = Annotated[float, Meta(ge=0, le=1)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_TokenId = Annotated[int, Meta(ge=0, le=2**32 - 1)]
_Bias = Annotated[float, Meta(ge=-100, le=100)]

_NOT_DONE: Mapping[str, str] = {
    "guided_json": "send the schema as response_format",
    "guided_choice": "send response_format, with an enum in the schema",
    "guided_regex": "send response_format, with a pattern in the schema",
    "guided_grammar": "send response_format",
    "structured_outputs": "send response_format",
    "stop_token_ids": "send stop, with their texts",
    "min_tokens": "an answer ends where the model ends it",
    "ignore_eos": "an answer ends where the model ends it",
}


class StreamOptions(msgspec.Struct, kw_only=True):
    include_usage: bool | None = None


class SamplingRequest(msgspec.Struct, kw_only=True):
    model: str | None = None
    max_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: Annotated[dict[_TokenId, _Bias], Meta(max_length=_MOST_BIASES)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=_MOST_STOPS)] | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Ollama's
    keep_alive: KeepAlive = None
    # vLLM's, which are not done
    guided_json: Any = None
    guided_choice: Any = None
    guided_regex: Any = None
    guided_grammar: Any = None
    structured_outputs: Any = None
    stop_token_ids: Any = None
    min_tokens: Any = None
    ignore_eos: Any = None

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self) -> Sampling:
        """Without logprobs and schemas, which the endpoints write differently."""
        refuse(self, _NOT_DONE)
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=None if self.top_k is None else max(0, self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias or {},
            seed=self.seed,
            stop=[text for text in stop if text],
        )


def refuse(body: msgspec.Struct, not_done: Mapping[str, str]) -> None:
    """Fields that ask for something: null, false, 0 and what is empty do not."""
    for name, instead in not_done.items():
        if getattr(body, name):
            raise unsupported(name, instead)


def unsupported(param: str, instead: str) -> ServeError:
    message = f"{param}: is not supported; {instead}"
    return ServeError(ErrorCode.UNSUPPORTED_PARAMETER, message, param=param)
