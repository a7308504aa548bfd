"""A chat model without a model, which misbehaves on request: for tests of everything around it.

Loaded only under ``MLX_SERVE_TEST_BACKENDS=1``. It answers with ``echo:`` and what it was told
last, a word at each step. Words inside that text govern how, besides those of the ``fake`` backend,
which are obeyed at the first word:

``__think:TEXT__``          reasons first
``__call:NAME:{…}__``       calls a tool
``__words:N__``             says N words instead
``__prefill:N__``           reads the prompt for N steps
``__crash_after:N__``       dies after N words
``__too_long__``            refuses the prompt
"""

import json
import os
import re
import signal
import time
from collections.abc import Collection
from typing import Any

import msgspec

from mlx_serve_common.chat import (
    Conversation,
    Delta,
    Finish,
    FinishReason,
    LikelyToken,
    Plain,
    Prompt,
    SaidToken,
    Sampling,
    TokenIds,
    ToolCall,
)
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Detokenize, Generate, Tokenize, TokenizeConversation
from mlx_serve_worker.backend import Step, Tokens
from mlx_serve_worker.backends.fake import Options, load_as_told, obey, spelled, unspelled

_HEARD_S = 0.5
"""What was said is heard before the process dies, also by a gateway that is late."""
_COMMAND = re.compile(r"__(\w+?):(.*?)__", re.DOTALL)


class _Answer:
    def __init__(self, prompt: Prompt, sampling: Sampling, choice: int) -> None:
        self.text = _last_said(prompt)
        self.sampling = sampling
        commands = dict(_COMMAND.findall(self.text))
        self.prompt_tokens = max(1, len(self.text.split()))
        self.to_read = int(commands.get("prefill", 0))
        self.crash_after = int(commands.get("crash_after", -1))
        self.reasoning = commands.get("think", "")
        self.call = commands.get("call")
        if isinstance(prompt, Conversation) and prompt.forced:
            self.call = f"{prompt.forced[0]}:{{}}"
        self.words = [f"word{n} " for n in range(int(commands.get("words", 0)))]
        if not self.words:
            said = f"echo: {self.text}" if choice == 0 else f"echo {choice}: {self.text}"
            if sampling.json_schema is not None:
                said = json.dumps({"echo": self.text}, ensure_ascii=False)
            self.words = re.findall(r"\S+\s*", said)
        self.said = 0

    def next(self) -> Delta:
        if self.said == 0 and not obey(self.text):
            raise ServeError(ErrorCode.INVALID_MODEL_OUTPUT, "the model's output is not finite")
        if self.said == self.crash_after:
            time.sleep(_HEARD_S)
            os.kill(os.getpid(), signal.SIGKILL)
        self.said += 1
        if self.call is not None:
            name, _, arguments = self.call.partition(":")
            calls = [ToolCall(name, arguments)]
            return Delta(reasoning=self.reasoning, calls=calls, finish=self._finish("tool_calls"))
        word = self.words[self.said - 1]
        return Delta(
            text=word,
            reasoning=self.reasoning if self.said == 1 else "",
            tokens=[] if self.sampling.top_logprobs is None else [_said(word)],
            finish=self._finish_after_word(),
        )

    def _finish_after_word(self) -> Finish | None:
        if self.said == len(self.words):
            return self._finish("stop")
        if self.said == self.sampling.max_tokens:
            return self._finish("length")
        return None

    def _finish(self, reason: FinishReason) -> Finish:
        return Finish(
            reason=reason,
            stop=None,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=0,
            completion_tokens=self.said,
            reasoning_tokens=len(self.reasoning.split()),
            prefill_s=0.001,
            decode_s=0.001,
        )


class FakeGenerator:
    def __init__(self, options: dict[str, Any]) -> None:
        self._options = msgspec.convert(options, Options)
        self._answers: dict[int, _Answer] = {}

    device = "fake"
    matmul_gflops = None
    matmul_library = None
    computing_workers = None

    def memory_bytes(self) -> int:
        return 0

    def give_back_memory(self) -> None:
        pass

    def load(self) -> None:
        load_as_told(self._options)

    @property
    def is_idle(self) -> bool:
        return not self._answers

    def tokenize(self, part: Tokenize) -> list[Tokens | ServeError]:
        return [spelled(text, part) for text in part.texts]

    def detokenize(self, part: Detokenize) -> list[str | ServeError]:
        return list(map(unspelled, part.tokens))

    def tokenize_conversation(self, part: TokenizeConversation) -> list[Tokens | ServeError]:
        return [Tokens(list(_last_said(each).encode()), []) for each in part.conversations]

    def prepare(self, part: Generate) -> list[_Answer | ServeError]:
        if "__too_long__" in _last_said(part.prompt):
            message = "the prompt has 9000 tokens; the model takes at most 512"
            error = ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, message, param="messages")
            return [error for _ in part.choices]
        return [_Answer(part.prompt, part.sampling, choice) for choice in part.choices]

    def start(self, id: int, prepared: _Answer) -> None:
        self._answers[id] = prepared

    def stop(self, ids: Collection[int]) -> None:
        for id in ids:
            self._answers.pop(id, None)

    def patience_s(self) -> float:
        return 0.0

    def step(self) -> Step:
        time.sleep(self._options.step_s)
        step = Step([], [], [])
        for id, answer in list(self._answers.items()):
            if answer.to_read:
                answer.to_read -= 1
                step.read.append((id, answer.prompt_tokens - answer.to_read, answer.prompt_tokens))
                continue
            try:
                delta = answer.next()
            except ServeError as error:
                step.failed.append((id, error))
                del self._answers[id]
                continue
            step.said.append((id, delta))
            if delta.finish is not None:
                del self._answers[id]
        return step


def _last_said(prompt: Prompt) -> str:
    match prompt:
        case Conversation(messages=messages):
            return str(messages[-1].get("content") or "")
        case Plain(text):
            return text
        case TokenIds(ids):
            return " ".join(map(str, ids))


def _said(word: str) -> SaidToken:
    return SaidToken(LikelyToken(word, word.encode(), -0.5), [LikelyToken("other", b"other", -1.5)])
