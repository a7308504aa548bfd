"""A request to a chat model, made into an answer that can begin.

Invariants: everything that can be wrong with a request is found here, before it takes a place in
the batch; what it leaves open is as the model's authors recommend. ``read`` and ``prepare`` belong
to the texts thread, and with them templates and grammars; ``make`` to the compute thread, which
alone makes arrays.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mlx_serve_common.chat import Conversation, Prompt, Sampling
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ChatFacts
from mlx_serve_worker.chat.answer import Answer
from mlx_serve_worker.chat.constraint import Constraint, Thinking
from mlx_serve_worker.chat.grammars import Grammars, call_schema
from mlx_serve_worker.chat.penalties import processors
from mlx_serve_worker.chat.prompts import PromptReader, Reading
from mlx_serve_worker.chat.sampling import Choosing, Samplers, choosing
from mlx_serve_worker.chat.speech import Calls, Speech, Thoughts
from mlx_serve_worker.chat.tool_calls import parse_json
from mlx_serve_worker.chat.vocabulary import ChatVocabulary
from mlx_serve_worker.chat.watched_model import WatchedModel

_MAX_STOPS = 64
_MAX_STOP_CHARACTERS = 1024
# The end of what was thought is found in the text of so many tokens.
_TOKENS_OF_A_MARK = 16


class Wanted(NamedTuple):
    """An answer of which everything is known, and nothing is computed."""

    prompt: list[int]
    max_tokens: int
    how: Choosing
    seed: int | None
    constraint: Constraint | None
    speech: Speech
    top_logprobs: int | None
    asked: Sampling


class AnswerMaker:
    def __init__(self, model: WatchedModel, words: ChatVocabulary, chat: ChatFacts) -> None:
        self._words = words
        self._chat = chat
        self._reader = PromptReader(words.tokenizer, words.texts, chat)
        self._samplers = Samplers(model)
        self._grammars = Grammars(words.said, words.vocab_size, words.ends)

    def read(self, conversation: Conversation) -> list[int]:
        return self._reader.read(conversation, is_bound=bool(conversation.forced)).ids

    def prepare(self, prompt: Prompt, asked: Sampling, choices: Sequence[int]) -> list[Wanted]:
        """Each has its own way through what it says; the prompt is read once."""
        schema, param = _schema(prompt, asked)
        reading = self._reader.read(prompt, is_bound=schema is not None)
        stops = _checked_stops(asked.stop)
        return [
            Wanted(
                prompt=reading.ids,
                max_tokens=self._length(reading.ids, asked),
                how=choosing(asked, self._chat.defaults),
                seed=None if asked.seed is None else asked.seed + choice,
                constraint=self._constraint(schema, param, reading),
                speech=self._speech(prompt, reading, stops, schema is not None),
                top_logprobs=_checked_top(asked.top_logprobs),
                asked=asked,
            )
            for choice in choices
        ]

    def make(self, id: int, wanted: Wanted) -> Answer:
        # Recommended for when chance decides; whoever leaves nothing to it wants the likeliest.
        penalty = self._chat.defaults.repetition_penalty if wanted.how.temperature > 0 else None
        changes = processors(wanted.asked, penalty, self._words.vocab_size)
        constraint = wanted.constraint
        return Answer(
            id,
            wanted.prompt,
            max_tokens=wanted.max_tokens,
            is_limited=wanted.asked.max_tokens is not None,
            sampler=self._samplers.sampler(wanted.how, wanted.seed),
            processors=changes if constraint is None else [*changes, constraint],
            constraint=constraint,
            speech=wanted.speech,
            texts=self._words.said,
            top_logprobs=wanted.top_logprobs,
        )

    def _length(self, prompt: Sequence[int], asked: Sampling) -> int:
        if asked.max_tokens is not None and asked.max_tokens < 1:
            message = f"max_tokens is {asked.max_tokens}; an answer has at least one token"
            raise ServeError(ErrorCode.INVALID_REQUEST, message, param="max_tokens")
        room = self._words.max_tokens - len(prompt)
        return room if asked.max_tokens is None else min(asked.max_tokens, room)

    def _constraint(self, schema: str | None, param: str, reading: Reading) -> Constraint | None:
        if schema is None:
            return None
        return Constraint(
            self._grammars.matcher(schema, param),
            param,
            vocab_size=self._words.vocab_size,
            ends=self._words.ends,
            thoughts=self._thinking(reading),
        )

    def _thinking(self, reading: Reading) -> Thinking | None:
        thinking = self._chat.thinking
        if thinking is None or not (reading.is_thinking or reading.may_think):
            return None
        start = self._words.tokenizer.token_to_id(thinking.start)
        if not reading.is_thinking and start is None:
            return None
        recent: list[int] = []

        def is_over(token: int) -> bool:
            recent.append(token)
            del recent[:-_TOKENS_OF_A_MARK]
            return thinking.end in self._words.said.decode(recent)

        return Thinking(None if reading.is_thinking else start, reading.is_thinking, is_over)

    def _speech(
        self, prompt: Prompt, reading: Reading, stops: Sequence[str], is_bound: bool
    ) -> Speech:
        thinking = self._chat.thinking
        thoughts = None
        if thinking is not None and isinstance(prompt, Conversation):
            begins_itself = not is_bound or reading.may_think
            thoughts = Thoughts(thinking.start if begins_itself else "", thinking.end)
        return Speech(
            thoughts=thoughts,
            is_thinking=reading.is_thinking,
            calls=self._calls(prompt, is_bound),
            stops=stops,
        )

    def _calls(self, prompt: Prompt, is_bound: bool) -> Calls | None:
        if not isinstance(prompt, Conversation) or not prompt.tools:
            return None
        if prompt.forced:
            return Calls("", "", parse_json, prompt.tools)
        form = self._words.calls
        if form is None or is_bound:
            return None
        return Calls(form.start, form.end, form.parse, prompt.tools)


def _schema(prompt: Prompt, asked: Sampling) -> tuple[str | None, str]:
    """The schema that the answer has to fit, and which of the request's fields asks for it."""
    if not isinstance(prompt, Conversation) or not prompt.forced:
        return asked.json_schema, "response_format"
    known = {tool.get("function", {}).get("name") for tool in prompt.tools}
    if unknown := [name for name in prompt.forced if name not in known]:
        message = f"the tool {unknown[0][:64]!r}, which has to be called, is not among the tools"
        raise ServeError(ErrorCode.INVALID_REQUEST, message, param="tool_choice")
    return call_schema(prompt.tools, prompt.forced), "tools"


def _checked_stops(stops: Sequence[str]) -> Sequence[str]:
    if len(stops) > _MAX_STOPS or any(len(stop) > _MAX_STOP_CHARACTERS for stop in stops):
        message = f"stop takes up to {_MAX_STOPS} texts of {_MAX_STOP_CHARACTERS} characters"
        raise ServeError(ErrorCode.INVALID_REQUEST, message, param="stop")
    return [stop for stop in stops if stop]


def _checked_top(count: int | None) -> int | None:
    if count is not None and not 0 <= count <= 100:
        message = f"top_logprobs is {count}; it has to be between 0 and 100"
        raise ServeError(ErrorCode.INVALID_REQUEST, message, param="top_logprobs")
    return count
