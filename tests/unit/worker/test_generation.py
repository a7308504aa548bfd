"""A chat model's compute thread: every answer is settled once, and only the guilty one fails."""

from collections.abc import Callable, Collection

import pytest

from mlx_serve_common.chat import Delta, Finish, Plain, Sampling
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import (
    Batch,
    Detokenize,
    Embed,
    Generate,
    Generated,
    Part,
    Prefilled,
    Progress,
    Rejected,
    Result,
    Tokenize,
    TokenizeConversation,
    settled,
)
from mlx_serve_worker.backend import Generator, Step, Tokens
from mlx_serve_worker.generation import Generation
from mlx_serve_worker.preparation import Inputs, Preparation
from mlx_serve_worker.urgent_first import UrgentFirst

FINISH = Finish("stop", None, 1, 0, 3, 0, 0.0, 0.0)


class ScriptedGenerator:
    """Says each word of its prompt at a step of its own; some words mean something."""

    device = "scripted"
    matmul_gflops = None
    matmul_library = None
    computing_workers = None

    def __init__(self) -> None:
        self.running: dict[int, list[str]] = {}
        self.together: list[set[int]] = []
        """Which answers each step was about."""
        self.after_step: Callable[[], None] = lambda: None
        self.patience: list[set[int]] = []
        """Who was there when it was asked for how long others are worth waiting for."""
        self.in_patience: Callable[[], None] = lambda: None
        self.given_back = 0

    def load(self) -> None:
        pass

    def memory_bytes(self) -> int:
        return 0

    def give_back_memory(self) -> None:
        self.given_back += 1

    def tokenize(self, part: Tokenize) -> list[Tokens | ServeError]:
        return [Tokens([len(text)], []) for text in part.texts]

    def detokenize(self, part: Detokenize) -> list[str | ServeError]:
        return ["text" for _ in part.tokens]

    def tokenize_conversation(self, part: TokenizeConversation) -> list[Tokens | ServeError]:
        return [Tokens([len(each.messages)], []) for each in part.conversations]

    @property
    def is_idle(self) -> bool:
        return not self.running

    def prepare(self, part: Generate) -> list[list[str] | ServeError]:
        assert isinstance(part.prompt, Plain)
        text = part.prompt.text
        if text == "unreadable":
            raise ValueError(text)
        if text == "refused":
            error = ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "too long", param="prompt")
            return [error for _ in part.choices]
        return [[f"{choice}", *text.split()] for choice in part.choices]

    def start(self, id: int, prepared: list[str]) -> None:
        if "no room" in " ".join(prepared):
            raise ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "no room", param="messages")
        if "stumble" in prepared:
            raise ValueError(prepared)
        self.running[id] = prepared

    def stop(self, ids: Collection[int]) -> None:
        for id in ids:
            del self.running[id]

    def patience_s(self) -> float:
        self.patience.append(set(self.running))
        self.in_patience()
        return 60.0

    def step(self) -> Step:
        self.together.append(set(self.running))
        step = Step([], [], [])
        if any("raise" in words for words in self.running.values()):
            raise RuntimeError("asked to raise")
        for id, words in list(self.running.items()):
            if words[0] == "read":
                step.read.append((id, 1, 2))
            elif words[0] == "nan":
                step.failed.append((id, ServeError(ErrorCode.INVALID_MODEL_OUTPUT, "nan")))
                del self.running[id]
                continue
            else:
                step.said.append((id, Delta(words[0], finish=None if words[1:] else FINISH)))
            del words[0]
            if not words:
                del self.running[id]
        self.after_step()
        return step


class Run:
    """What came of some parts."""

    def __init__(self, *parts: Part) -> None:
        self.generator = ScriptedGenerator()
        self.ready: UrgentFirst[Inputs] = UrgentFirst()
        self.gone: set[int] = set()
        """Whose callers have left."""
        self.emitted: list[Result | Progress] = []
        emit, is_cancelled = self.emitted.append, self.gone.__contains__
        self.preparation = Preparation(self.generator, emit=emit, is_cancelled=is_cancelled)
        self.generation = Generation(self.generator, emit=emit, is_cancelled=is_cancelled)
        self.put(*parts)

    def put(self, *parts: Part) -> None:
        self.ready.put(self.preparation.inputs(Batch(list(parts))))

    def go(self) -> None:
        self.ready.close()
        self.generation.run(self.ready)

    @property
    def settled(self) -> list[int]:
        return sorted(id for message in self.emitted for id in settled(message))

    def said(self, id: int) -> str:
        deltas = (
            delta
            for message in self.emitted
            if isinstance(message, Generated)
            for each, delta in zip(message.ids, message.deltas, strict=True)
            if each == id
        )
        return " ".join(delta.text for delta in deltas)

    def rejected(self) -> dict[int, str]:
        return {
            id: message.code
            for message in self.emitted
            if isinstance(message, Rejected)
            for id in message.ids
        }


def generate(id: int, text: str) -> Generate:
    return Generate([id], [0], Plain(text), Sampling())


def test_the_scripted_generator_is_one() -> None:
    assert isinstance(ScriptedGenerator(), Generator)


def test_answers_run_together_and_end_by_themselves() -> None:
    run = Run(generate(1, "a"), generate(2, "a b c"))
    run.go()
    assert run.generator.together == [{1, 2}, {1, 2}, {2}, {2}]
    assert (run.said(1), run.said(2)) == ("0 a", "0 a b c")
    assert run.settled == [1, 2]


def test_an_answer_joins_those_that_are_running() -> None:
    run = Run(generate(1, "a b c"))
    arrivals = [generate(2, "x")]
    run.generator.after_step = lambda: run.put(arrivals.pop()) if arrivals else None
    run.go()
    assert run.generator.together == [{1}, {1, 2}, {1, 2}, {1}]
    assert run.settled == [1, 2]


def test_who_comes_a_moment_later_is_there_at_the_first_step() -> None:
    run = Run(generate(1, "a"))
    arrivals = [generate(2, "b"), generate(3, "c")]
    run.generator.in_patience = lambda: run.put(*arrivals)
    run.go()
    assert run.generator.together == [{1, 2, 3}, {1, 2, 3}]
    assert run.settled == [1, 2, 3]


def test_nobody_is_waited_for_while_answers_run() -> None:
    run = Run(generate(1, "a b c"))
    arrivals = [generate(2, "x")]
    run.generator.after_step = lambda: run.put(arrivals.pop()) if arrivals else None
    run.go()
    assert run.generator.patience == [{1}]


def test_who_cannot_begin_fails_and_nothing_else() -> None:
    run = Run(generate(1, "a"), generate(2, "b"))
    arrivals = [generate(3, "c")]

    def fail() -> None:
        if arrivals:
            run.put(arrivals.pop())
            raise RuntimeError("asked to raise")

    run.generator.in_patience = fail
    run.go()
    assert run.rejected() == dict.fromkeys((1, 2), ErrorCode.INFERENCE_FAILED)
    assert (run.said(3), run.settled) == ("0 c", [1, 2, 3])


def test_waiting_for_company_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedGenerator, "patience_s", lambda _: 0.001)
    run = Run(generate(1, "a"))
    run.generator.after_step = run.ready.close  # nobody else comes before that
    run.generation.run(run.ready)
    assert run.settled == [1]


def test_choices_of_one_prompt_are_told_apart() -> None:
    run = Run(Generate([7, 8], [0, 1], Plain("x"), Sampling()))
    run.go()
    assert (run.said(7), run.said(8)) == ("0 x", "1 x")


def test_reading_a_prompt_is_told() -> None:
    run = Run(generate(1, "read a"))
    run.go()
    assert Prefilled([1], [1], [2]) in run.emitted
    assert run.settled == [1]


def test_a_refused_prompt_fails_alone_and_names_the_field() -> None:
    run = Run(generate(1, "refused"), generate(2, "unreadable"), generate(3, "a"))
    run.go()
    assert Rejected([1], ErrorCode.CONTEXT_LENGTH_EXCEEDED, "too long", "prompt") in run.emitted
    assert run.rejected()[2] == ErrorCode.INFERENCE_FAILED
    assert run.said(3) == "0 a"
    assert run.settled == [1, 2, 3]


def test_an_answer_that_cannot_begin_fails_alone() -> None:
    run = Run(generate(1, "no room"), generate(2, "stumble"), generate(3, "a"))
    run.go()
    assert Rejected([1], ErrorCode.CONTEXT_LENGTH_EXCEEDED, "no room", "messages") in run.emitted
    assert run.rejected()[2] == ErrorCode.INFERENCE_FAILED
    assert run.said(3) == "0 a"
    assert run.settled == [1, 2, 3]


def test_an_answer_that_fails_leaves_the_others_alone() -> None:
    run = Run(generate(1, "nan"), generate(2, "a b"))
    run.go()
    assert run.rejected() == {1: ErrorCode.INVALID_MODEL_OUTPUT}
    assert run.said(2) == "0 a b"
    assert run.settled == [1, 2]


def test_a_step_that_fails_ends_what_was_running_and_nothing_else() -> None:
    run = Run(generate(1, "raise"), generate(2, "a"))
    run.go()
    assert set(run.rejected()) == {1, 2}
    assert run.generator.is_idle

    run.put(generate(3, "a"))
    run.go()
    assert run.said(3) == "0 a"


def test_who_has_left_is_out_before_the_next_step() -> None:
    run = Run(generate(1, "a b c d"), generate(2, "a b c d"))
    left: list[None] = [None]

    def leave() -> None:
        if left:
            left.pop()
            run.gone.add(1)

    run.generator.after_step = leave
    run.go()
    assert run.generator.together[:2] == [{1, 2}, {2}]
    assert run.rejected() == {1: ErrorCode.CANCELLED}
    assert run.settled == [1, 2]


def test_who_has_left_before_the_start_takes_no_step() -> None:
    run = Run(generate(1, "a"))
    run.gone.add(1)
    run.go()
    assert run.generator.together == []
    assert run.rejected() == {1: ErrorCode.CANCELLED}


def test_a_drain_waits_for_the_running_answers() -> None:
    run = Run(generate(1, "a b c"))
    run.ready.close()
    run.generation.run(run.ready)
    assert run.said(1) == "0 a b c"


def test_what_is_no_work_for_a_chat_model_is_rejected() -> None:
    run = Run(Embed([1], ["a"], "float", "right"), generate(2, "a"))
    run.go()
    assert run.rejected() == {1: ErrorCode.MODEL_TYPE_MISMATCH}
    assert run.settled == [1, 2]
