"""One answer while it is given: from the tokens of a batch to what its caller is told.

Invariants: every answer ends with exactly one finish or one error; what is counted is what the
model has read and said, however much of it is told.
"""

import time
from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from mlx_serve_common.chat import Delta, Finish, FinishReason, LikelyToken, SaidToken
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.chat.batch import Token
from mlx_serve_worker.chat.constraint import Constraint
from mlx_serve_worker.chat.detokenizing import TokenTexts
from mlx_serve_worker.chat.penalties import Processor
from mlx_serve_worker.chat.sampling import Sampler
from mlx_serve_worker.chat.speech import Said, Speech

# So often something is told even of an answer that says nothing yet, as with a long tool call:
# whoever hears nothing for long takes the worker for hung.
_MOST_SILENT_TOKENS = 32


class Answer:
    def __init__(
        self,
        id: int,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        is_limited: bool,
        sampler: Sampler,
        processors: Sequence[Processor],
        constraint: Constraint | None,
        speech: Speech,
        texts: TokenTexts,
        top_logprobs: int | None,
    ) -> None:
        """``is_limited`` if the caller has said how long the answer may become."""
        self.id = id
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.is_limited = is_limited
        self.sampler = sampler
        self.processors = processors
        self.said_tokens = 0
        self._constraint = constraint
        self._speech = speech
        self._texts = texts
        self._detokenizer = texts.detokenizer()
        self._top_logprobs = top_logprobs
        self._held: list[SaidToken] = []
        self._known = 0
        self._reasoning_tokens = 0
        self._silent_tokens = 0
        self._has_called = False
        self._began = self._first = 0.0

    @property
    def tokens(self) -> int:
        return len(self.prompt) + self.said_tokens

    def begin(self, known: int) -> None:
        """It is its turn; so many tokens of its prompt need not be read."""
        self._known = known
        self._began = time.monotonic()

    def hear(self, token: Token, *, must_end: bool) -> Delta | None:
        """The next token; None if there is nothing to tell. ``must_end``: there is no more room."""
        self._check(token)
        self.said_tokens += 1
        self._first = self._first or time.monotonic()
        if self._speech.mode == "reasoning":
            self._reasoning_tokens += 1
        if token.is_end:
            return self._end("stop", [])
        self._hold(token)
        said = [self._speech.feed(self._detokenizer.feed(token.id))]
        if (stop := said[0].stop) is not None:
            return self._told(said, self._finish("stop", stop))
        if token.is_last or must_end:
            return self._end("length", said)
        return self._told(said, None)

    def _check(self, token: Token) -> None:
        if token.id >= self._vocab_size(token):
            message = "the model's output is not finite"
            raise ServeError(ErrorCode.INVALID_MODEL_OUTPUT, message)
        if self._constraint is not None and (error := self._constraint.error) is not None:
            raise error

    def _vocab_size(self, token: Token) -> int:
        return token.logprobs.shape[-1]

    def _end(self, reason: FinishReason, said: list[Said]) -> Delta | None:
        said += [self._speech.feed(self._detokenizer.flush()), self._speech.finish()]
        found = next((each.stop for each in said if each.stop is not None), None)
        return self._told(said, self._finish("stop" if found else reason, found))

    def _finish(self, reason: FinishReason, stop: str | None) -> Finish:
        now = time.monotonic()
        return Finish(
            reason=reason,
            stop=stop,
            prompt_tokens=len(self.prompt),
            cached_tokens=self._known,
            completion_tokens=self.said_tokens,
            reasoning_tokens=self._reasoning_tokens,
            prefill_s=self._first - self._began,
            decode_s=now - self._first,
        )

    def _told(self, said: list[Said], finish: Finish | None) -> Delta | None:
        text = "".join(each.text for each in said)
        reasoning = "".join(each.reasoning for each in said)
        calls = [call for each in said for call in each.calls]
        self._has_called |= bool(calls)
        if finish is not None and finish.reason == "stop" and self._has_called:
            finish = _as_call(finish)
        if not (text or reasoning or calls or finish):
            self._silent_tokens += 1
            if self._silent_tokens < _MOST_SILENT_TOKENS:
                return None
        self._silent_tokens = 0
        return Delta(text, reasoning, calls, self._let_go(bool(text), finish), finish)

    # --- probabilities ---------------------------------------------------------------------------

    def _hold(self, token: Token) -> None:
        """Tokens are told when their text is: it may still turn out to be none of the answer."""
        if self._top_logprobs is not None and self._speech.mode == "text":
            self._held.append(self._said_token(token, self._top_logprobs))

    def _let_go(self, has_text: bool, finish: Finish | None) -> list[SaidToken]:
        if not has_text and (finish is None or finish.stop is not None):
            return []
        held, self._held = self._held, []
        return held

    def _said_token(self, token: Token, count: int) -> SaidToken:
        logprobs = np.array(token.logprobs.astype(mx.float32))
        count = min(count, logprobs.size)
        top = np.argpartition(-logprobs, max(count - 1, 0))[:count].tolist()
        ranked = sorted(top, key=lambda id: (-logprobs[id], id))
        return SaidToken(
            self._likely(token.id, logprobs[token.id]),
            [self._likely(id, logprobs[id]) for id in ranked if np.isfinite(logprobs[id])],
        )

    def _likely(self, id: int, logprob: float) -> LikelyToken:
        written = self._texts.bytes_of(id)
        return LikelyToken(written.decode(errors="replace"), written, float(logprob))


def _as_call(finish: Finish) -> Finish:
    return Finish(
        "tool_calls",
        finish.stop,
        finish.prompt_tokens,
        finish.cached_tokens,
        finish.completion_tokens,
        finish.reasoning_tokens,
        finish.prefill_s,
        finish.decode_s,
    )
