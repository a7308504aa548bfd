"""Tiny chat models as a worker has them, and talking to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_serve_common.chat import (
    Conversation,
    Delta,
    Finish,
    Prompt,
    SaidToken,
    Sampling,
    TokenIds,
    ToolCall,
)
from mlx_serve_common.errors import ServeError
from mlx_serve_common.launch import GenerationLimits
from mlx_serve_common.wire import Generate
from mlx_serve_worker.backends.generator import GeneratorBackend
from mlx_serve_worker.mlx_lm_runtime import utils
from tests.engine.tiny_chat import install_chat_model

LIMITS = GenerationLimits(
    max_sequences=32, prefill_tokens=256, cache_bytes=2**28, prompt_cache_bytes=2**26
)
GREEDY = Sampling(max_tokens=24, temperature=0)


def chat_model(folder: Path, architecture: str = "qwen3", **overrides: Any) -> Path:
    install_chat_model(folder, architecture, architecture, **overrides)
    return folder / architecture


def load(path: Path, limits: GenerationLimits = LIMITS) -> GeneratorBackend:
    backend = GeneratorBackend(path, None, limits)
    backend.load()
    return backend


def says(*contents: str, **options: Any) -> Conversation:
    """A conversation of these messages, the first by the user, the next by the assistant …"""
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": each} for at, each in enumerate(contents)]
    return Conversation(messages, **options)


@dataclass
class Heard:
    """All that was said of one answer."""

    deltas: list[Delta] = field(default_factory=list)
    read: list[tuple[int, int]] = field(default_factory=list)
    error: ServeError | None = None

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def reasoning(self) -> str:
        return "".join(delta.reasoning for delta in self.deltas)

    @property
    def calls(self) -> list[ToolCall]:
        return [call for delta in self.deltas for call in delta.calls]

    @property
    def tokens(self) -> list[SaidToken]:
        return [token for delta in self.deltas for token in delta.tokens]

    @property
    def finish(self) -> Finish:
        assert self.error is None, self.error
        finishes = [delta.finish for delta in self.deltas if delta.finish is not None]
        assert len(finishes) == 1
        assert self.deltas[-1].finish is finishes[0]
        return finishes[0]


def begin(
    backend: GeneratorBackend,
    id: int,
    prompt: Prompt,
    sampling: Sampling = GREEDY,
    choice: int = 0,
) -> None:
    """Take up an answer, or raise why that cannot be."""
    (prepared,) = backend.prepare(Generate([id], [choice], prompt, sampling))
    if isinstance(prepared, ServeError):
        raise prepared
    backend.start(id, prepared)


class Talk:
    """Steps a backend and keeps what it says, by id."""

    def __init__(self, backend: GeneratorBackend) -> None:
        self.backend = backend
        self.heard: dict[int, Heard] = {}

    def start(self, id: int, prompt: Prompt, sampling: Sampling = GREEDY, choice: int = 0) -> None:
        begin(self.backend, id, prompt, sampling, choice)
        self.heard[id] = Heard()

    def step(self) -> None:
        step = self.backend.step()
        for id, done, total in step.read:
            self.heard[id].read.append((done, total))
        for id, delta in step.said:
            self.heard[id].deltas.append(delta)
        for id, error in step.failed:
            assert self.heard[id].error is None
            self.heard[id].error = error

    def run(self) -> dict[int, Heard]:
        while not self.backend.is_idle:
            self.step()
        return self.heard


def answers(
    backend: GeneratorBackend, asked: Mapping[int, tuple[Prompt, Sampling]]
) -> dict[int, Heard]:
    """All of them, asked for at once."""
    talk = Talk(backend)
    for id, (prompt, sampling) in asked.items():
        talk.start(id, prompt, sampling)
    return talk.run()


def answer(backend: GeneratorBackend, prompt: Prompt, sampling: Sampling = GREEDY) -> Heard:
    return answers(backend, {0: (prompt, sampling)})[0]


def token_id(tokenizer: Any, token: str) -> int:
    found = tokenizer.token_to_id(token)
    assert isinstance(found, int)
    return found


def reference(path: Path, prompt: Sequence[int], count: int) -> list[int]:
    """What mlx-lm itself says greedily, alone."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    model, _ = utils.load_model(path)
    steps = generate_step(mx.array([*prompt]), model, max_tokens=count)
    return [int(token) for token, _ in steps]


def prompt_ids(backend: GeneratorBackend, prompt: Prompt) -> list[int]:
    if isinstance(prompt, TokenIds):
        return prompt.ids
    assert isinstance(prompt, Conversation)
    return backend._answers.read(prompt)


def layer_classes() -> Any:
    """mlx-lm's, of what a layer remembers of a conversation."""
    from mlx_lm.models import cache

    return cache
