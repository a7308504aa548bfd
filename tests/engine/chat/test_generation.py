"""Answers of a generator: equal to mlx-lm's, alone and in a batch, and what ends them."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import msgspec
import pytest

from mlx_serve_common.chat import Plain, Prompt, Sampling, TokenIds
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Detokenize, Generate, Tokenize, TokenizeConversation
from mlx_serve_worker.backend import Generator, Tokens
from mlx_serve_worker.backends.generator import GeneratorBackend
from mlx_serve_worker.chat.answers import Wanted
from mlx_serve_worker.chat.prompts import PromptReader, Reading
from tests.engine.chat.conversing import (
    GREEDY,
    LIMITS,
    Talk,
    answer,
    answers,
    begin,
    chat_model,
    load,
    prompt_ids,
    reference,
    says,
    token_id,
)

pytestmark = pytest.mark.engine

QUESTIONS = [f"{'Tell me more, please. ' * (at * at % 7)}What is {at}?" for at in range(16)]


def until_the_end(backend: GeneratorBackend, ids: list[int]) -> list[int]:
    ends = set(backend._words.ends)
    return ids[: next((at for at, id in enumerate(ids) if id in ends), len(ids))]


@pytest.mark.parametrize("architecture", ["qwen3", "qwen2", "llama"])
def test_greedy_answers_are_those_of_mlx_lm(
    architecture: str,
    backend_of: Callable[[str], GeneratorBackend],
    chat_path: Callable[[str], Path],
) -> None:
    backend = backend_of(architecture)
    prompts = [TokenIds(prompt_ids(backend, says(question))) for question in QUESTIONS]
    talk = Talk(backend)
    for at, prompt in enumerate(prompts):
        talk.start(at, prompt, GREEDY)
        for _ in range(at % 3):
            talk.step()
    talk.run()
    for at, prompt in enumerate(prompts):
        expected = reference(chat_path(architecture), prompt.ids, 24)
        expected = until_the_end(backend, expected)
        text = backend.detokenize(Detokenize([0], [expected], skip_special=True))[0]
        heard = talk.heard[at]
        assert heard.text == text
        assert heard.finish.reason == ("length" if len(expected) == 24 else "stop")
        assert answer(backend, prompt).text == text


def test_it_is_a_generator(backend: GeneratorBackend) -> None:
    assert isinstance(backend, Generator)
    assert backend.memory_bytes() > 0
    assert backend.device


def test_a_model_in_half_precision_answers(tmp_path: Path) -> None:
    path = chat_model(tmp_path, "qwen2", dtype="BF16")
    assert answer(load(path), says("Hello")).finish.completion_tokens == 24


# --- chance --------------------------------------------------------------------------------------


def test_a_seed_says_the_same_alone_and_in_any_batch(backend: GeneratorBackend) -> None:
    seeded = Sampling(max_tokens=24, temperature=0.9, top_p=0.95, top_k=40, seed=11)
    alone = answer(backend, says("Hello"), seeded).text
    others = {at: (says(QUESTIONS[at]), Sampling(max_tokens=20)) for at in range(1, 9)}
    assert answers(backend, {0: (says("Hello"), seeded), **others})[0].text == alone
    assert answer(backend, says("Hello"), msgspec.structs.replace(seeded, seed=12)).text != alone


def test_choices_of_a_request_differ_by_their_number(backend: GeneratorBackend) -> None:
    seeded = Sampling(max_tokens=24, seed=7)
    talk = Talk(backend)
    for choice in range(3):
        talk.start(choice, says("Hello"), seeded, choice)
    talk.start(3, says("Hello"), msgspec.structs.replace(seeded, seed=8))
    said = [heard.text for heard in talk.run().values()]
    assert len({*said[:3]}) == 3
    assert said[3] == said[1]


def test_the_prompt_of_several_choices_is_read_once(
    backend: GeneratorBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = PromptReader.read, []

    def counting(reader: PromptReader, prompt: Prompt, *, is_bound: bool) -> Reading:
        reads.append(prompt)
        return read(reader, prompt, is_bound=is_bound)

    monkeypatch.setattr(PromptReader, "read", counting)
    asked = says("Hello")
    prepared = backend.prepare(Generate([7, 8, 9], [0, 1, 2], asked, Sampling(seed=7)))
    assert [each.seed for each in prepared if isinstance(each, Wanted)] == [7, 8, 9]
    assert reads == [asked]


def test_without_a_seed_answers_differ(backend: GeneratorBackend) -> None:
    unseeded = Sampling(max_tokens=24, temperature=1.5)
    said = answers(backend, {at: (says("Hello"), unseeded) for at in range(4)})
    assert len({heard.text for heard in said.values()}) == 4


def test_settings_narrow_what_can_be_said(backend: GeneratorBackend) -> None:
    greedy = answer(backend, says("Hello")).text
    hot = Sampling(max_tokens=24, temperature=2.0, seed=1)
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        sampling = msgspec.structs.replace(hot, **narrow)
        assert answer(backend, says("Hello"), sampling).text == greedy, narrow


def test_what_the_model_recommends_is_used_where_nothing_is_said(tmp_path: Path) -> None:
    path = chat_model(tmp_path, "qwen3")
    settings = {"temperature": 2.0, "top_k": 1}
    backend = load(path)
    facts = backend._answers._chat
    defaults = msgspec.structs.replace(facts.defaults, **settings)
    backend._answers._chat = msgspec.structs.replace(facts, defaults=defaults)
    greedy = answer(backend, says("Hello")).text
    assert answer(backend, says("Hello"), Sampling(max_tokens=24)).text == greedy
    assert answer(backend, says("Hello"), Sampling(max_tokens=24, top_k=0)).text != greedy


# --- penalties and bias --------------------------------------------------------------------------


def test_a_biased_token_is_said_and_its_neighbours_are_as_before(backend: GeneratorBackend) -> None:
    letter = token_id(backend._words.tokenizer, "x")
    biased = msgspec.structs.replace(GREEDY, logit_bias={letter: 100.0})
    free = answer(backend, says("Hello")).text
    both = answers(backend, {0: (says("Hello"), biased), 1: (says("Hello"), GREEDY)})
    assert both[0].text == "x" * 24
    assert both[1].text == free


def test_penalties_keep_an_answer_from_repeating_itself(backend: GeneratorBackend) -> None:
    plain = Sampling(24, 0.0, top_logprobs=0)
    for penalty in ({"repetition_penalty": 5.0}, {"presence_penalty": 2.0}):
        sampling = msgspec.structs.replace(plain, **penalty)
        heard = answer(backend, Plain("Hello"), sampling)
        said = [token.token.bytes for token in heard.tokens]
        free = answer(backend, Plain("Hello"), plain)
        assert len({*said}) > len({token.token.bytes for token in free.tokens}), penalty


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"presence_penalty": 3.0}, "presence_penalty"),
        ({"frequency_penalty": -3.0}, "frequency_penalty"),
        ({"repetition_penalty": 100.0}, "repetition_penalty"),
        ({"logit_bias": {100_000: 1.0}}, "logit_bias"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias"),
        ({"logit_bias": {1: float("nan")}}, "logit_bias"),
        ({"top_logprobs": 1000}, "top_logprobs"),
        ({"stop": ["a"] * 100}, "stop"),
        ({"stop": ["a" * 5000]}, "stop"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    wrong: dict[str, object], param: str, backend: GeneratorBackend
) -> None:
    with pytest.raises(ServeError) as caught:
        begin(backend, 1, says("Hello"), msgspec.convert(_all(wrong), Sampling))
    assert caught.value.param == param
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert backend.is_idle


def _all(given: dict[str, object]) -> list[object]:
    """As the wire has it: by place."""
    default = Sampling()
    return [given.get(name, getattr(default, name)) for name in Sampling.__struct_fields__]


# --- stop texts, probabilities -------------------------------------------------------------------


def test_a_stop_text_ends_the_answer_wherever_it_lies(backend: GeneratorBackend) -> None:
    long = Sampling(max_tokens=60, temperature=0)
    text = answer(backend, says("Hello"), long).text
    for at in range(3, 40, 5):
        stop = text[at : at + 4]
        first = text.find(stop)
        heard = answer(backend, says("Hello"), msgspec.structs.replace(long, stop=["###", stop]))
        assert heard.text == text[:first]
        assert (heard.finish.reason, heard.finish.stop) == ("stop", stop)
        assert heard.finish.completion_tokens < 60


def test_probabilities_are_those_before_the_temperature(backend: GeneratorBackend) -> None:
    cold = answer(backend, says("Hello"), Sampling(8, 0.0, top_logprobs=3))
    hot = answer(backend, says("Hello"), Sampling(8, 1.5, top_k=1, top_logprobs=3))
    assert [token.token for token in cold.tokens] == [token.token for token in hot.tokens]
    for token in cold.tokens:
        assert len(token.top) == 3
        assert token.top[0].logprob == token.token.logprob <= 0
        assert [each.logprob for each in token.top] == sorted(
            (each.logprob for each in token.top), reverse=True
        )
    assert (
        b"".join(token.token.bytes for token in cold.tokens).decode(errors="replace") == cold.text
    )
    assert not answer(backend, says("Hello"), Sampling(8, 0.0)).tokens


# --- leaving and failing -------------------------------------------------------------------------


def test_who_leaves_is_gone_before_the_next_step(backend: GeneratorBackend) -> None:
    alone = answer(backend, says("Hello")).text
    talk = Talk(backend)
    talk.start(1, says("Hello"))
    talk.start(2, says("Once upon a time"))
    talk.step()
    talk.start(3, says("word " * 400))
    while len(talk.heard[2].deltas) < 3:
        talk.step()
    assert talk.heard[3].read
    assert talk.heard[3].read[-1][0] < talk.heard[3].read[-1][1], "the long prompt is still read"
    told = len(talk.heard[2].deltas)
    backend.stop([2, 3])
    talk.run()
    assert talk.heard[1].text == alone
    assert len(talk.heard[2].deltas) == told
    assert not talk.heard[3].deltas
    assert answer(backend, says("Hello")).text == alone


def test_all_can_leave_at_any_time(backend: GeneratorBackend) -> None:
    for steps in range(6):
        talk = Talk(backend)
        for at in range(4):
            talk.start(at, says(QUESTIONS[at]))
        for _ in range(steps):
            talk.step()
        backend.stop(range(4))
        assert backend.is_idle


def test_a_row_that_is_no_number_fails_alone(tmp_path: Path) -> None:
    backend = load(chat_model(tmp_path, "llama"))
    free = answer(backend, says("Hello")).text
    broken = token_id(backend._words.tokenizer, "x")
    table = backend._answers._samplers._model._model.model.embed_tokens
    whole = mx.array(table.weight[broken])
    table.weight[broken] = mx.nan
    prompt = TokenIds([*range(5, 25), broken, 7])
    both = answers(backend, {1: (says("Hello"), GREEDY), 2: (prompt, GREEDY)})
    assert both[1].text == free
    assert both[2].error is not None
    assert both[2].error.code is ErrorCode.INVALID_MODEL_OUTPUT
    assert not both[2].text
    assert answer(backend, says("Hello")).text == free
    table.weight[broken] = whole
    assert answer(backend, prompt).finish.cached_tokens == 0, "nothing is kept of it"


def test_a_step_that_fails_ends_what_ran_and_nothing_else(tmp_path: Path) -> None:
    backend = load(chat_model(tmp_path, "llama"))
    free = answer(backend, says("Hello")).text
    watched = backend._answers._samplers._model
    whole = watched._model

    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("out of memory")

    talk = Talk(backend)
    talk.start(1, says("Hello"))
    talk.step()
    watched._model = fails
    talk.step()
    error = talk.heard[1].error
    assert error is not None
    assert error.code is ErrorCode.INFERENCE_FAILED
    assert backend.is_idle
    watched._model = whole
    assert answer(backend, says("Hello")).text == free


# --- prompts that were read before ---------------------------------------------------------------


def test_a_second_turn_reads_only_what_is_new(tmp_path: Path) -> None:
    backend = load(chat_model(tmp_path, "qwen2"))
    long = "The quick brown fox jumps over the lazy dog. " * 60
    first = answer(backend, says(long))
    assert first.finish.cached_tokens == 0
    assert first.finish.prompt_tokens > 1000
    turns = says(long, first.text, "And then?")
    fresh = load(backend._path)
    second = answer(backend, turns)
    assert second.text == answer(fresh, turns).text
    assert second.finish.cached_tokens >= first.finish.prompt_tokens
    assert second.read[0][0] > first.finish.prompt_tokens
    other = answer(backend, says(long, "Something else was said.", "And then?"))
    assert first.finish.prompt_tokens - 8 < other.finish.cached_tokens


def test_what_is_kept_of_prompts_stays_within_its_bound(tmp_path: Path) -> None:
    path = chat_model(tmp_path, "qwen2")
    backend = load(path, msgspec.structs.replace(LIMITS, prompt_cache_bytes=0))
    answer(backend, says("Hello"))
    assert answer(backend, says("Hello")).finish.cached_tokens == 0


def test_what_is_kept_of_prompts_holds_nothing_of_their_neighbours(tmp_path: Path) -> None:
    backend = load(chat_model(tmp_path, "qwen2"))
    before = backend.memory_bytes()
    talk = Talk(backend)
    for at in range(8):
        talk.start(at, TokenIds([5 + at] * 600), Sampling(5 + at, 0.0))
    talk.run()
    kept = backend._schedule._prompts.bytes
    assert kept > 0
    assert kept <= backend.memory_bytes() - before < 1.5 * kept


# --- room ----------------------------------------------------------------------------------------


def test_no_more_answers_run_than_allowed(tmp_path: Path) -> None:
    limits = msgspec.structs.replace(LIMITS, max_sequences=2)
    backend = load(chat_model(tmp_path, "llama"), limits)
    talk = Talk(backend)
    for at in range(5):
        talk.start(at, says(QUESTIONS[at]))
    talk.step()
    assert len(backend._schedule._running) == 2
    finished = []
    while not backend.is_idle:
        talk.step()
        finished += [at for at in talk.heard if at not in finished and _is_over(talk, at)]
    assert finished == [0, 1, 2, 3, 4]


def _is_over(talk: Talk, at: int) -> bool:
    deltas = talk.heard[at].deltas
    return bool(deltas) and deltas[-1].finish is not None


def test_a_prompt_that_fills_the_context_is_refused(backend: GeneratorBackend) -> None:
    with pytest.raises(ServeError, match=r"4096.*5000") as caught:
        begin(backend, 1, TokenIds([5] * 5000), GREEDY)
    assert caught.value.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
    with pytest.raises(ServeError, match="4096"):
        begin(backend, 1, says("word " * 40000), GREEDY)
    heard = answer(backend, TokenIds([5] * 4090), Sampling(1000, 0.0))
    assert heard.finish.completion_tokens <= 6


def test_memory_bounds_answers_before_it_is_used(tmp_path: Path) -> None:
    path = chat_model(tmp_path, "llama")
    room = load(path)._schedule._room
    limits = msgspec.structs.replace(
        LIMITS, cache_bytes=room._cost.of(1024), prompt_cache_bytes=2**20
    )
    backend = load(path, limits)
    with pytest.raises(ServeError, match=r"1100.*1024") as caught:
        begin(backend, 1, TokenIds([5] * 1100), Sampling(20, 0.0))
    assert caught.value.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
    for most in (None, 2000):
        endless = Sampling(most, 0.0, logit_bias=no_end(backend))
        heard = answer(backend, TokenIds([5] * 100), endless)
        assert heard.finish.reason == "length"
        assert 100 + heard.finish.completion_tokens <= 1024
        assert heard.finish.completion_tokens > 800
    talk = Talk(backend)
    talk.start(1, TokenIds([5] * 400), Sampling(20, 0.0))
    talk.start(2, TokenIds([6] * 400), Sampling(20, 0.0))
    talk.start(3, TokenIds([7] * 400), Sampling(20, 0.0))
    talk.step()
    assert len(backend._schedule._running) == 2
    assert {heard.finish.reason for heard in talk.run().values()} <= {"length", "stop"}


def no_end(backend: GeneratorBackend) -> dict[int, float]:
    return dict.fromkeys(backend._words.ends, -100.0)


@pytest.mark.parametrize(
    ("speaking", "waiting", "bound"),
    [(1, 1, 256), (4, 2, 512), (1, 8, 1024), (0, 4, 1024), (0, 8, 2048)],
    ids=["one beside an answer", "some beside more", "many more", "alone", "many alone"],
)
def test_prompts_are_read_in_shares_of_one_bound(
    backend: GeneratorBackend, speaking: int, waiting: int, bound: int
) -> None:
    talk = Talk(backend)
    for at in range(speaking):
        talk.start(90 + at, says("Hello"), Sampling(200, 0.0, logit_bias=no_end(backend)))
    while not all(heard.deltas for heard in talk.heard.values()):
        talk.step()
    for at in range(waiting):
        talk.start(at, TokenIds([*range(at + 5, at + 405)] * 2))
    before, largest = 0, 0
    while not any(talk.heard[at].deltas for at in range(waiting)):
        talk.step()
        now = sum(heard.read[-1][0] for at, heard in talk.heard.items() if at < 90 and heard.read)
        before, largest = now, max(largest, now - before)
    assert 0.75 * bound <= largest <= 1.25 * bound
    talk.run()


def test_the_first_word_does_not_wait_for_others_to_be_read(backend: GeneratorBackend) -> None:
    talk = Talk(backend)
    talk.start(1, says("Hello"))
    while not talk.heard[1].read or len(set(talk.heard[1].read[-1])) > 1:
        talk.step()
    talk.start(2, TokenIds([9] * 2000))
    while not talk.heard[1].deltas:
        talk.step()
    assert not talk.heard[2].read
    talk.run()


def test_company_is_worth_waiting_for_while_there_is_something_to_read(
    backend: GeneratorBackend, chat_path: Callable[[str], Path]
) -> None:
    rows = load(chat_path("qwen3"))
    rows._schedule._batch._on_cpu = False
    for talk, is_patient in ((Talk(backend), True), (Talk(rows), False)):
        assert talk.backend.patience_s() == 0
        talk.start(1, TokenIds([9] * 600))
        assert (talk.backend.patience_s() > 0) is is_patient
        talk.run()
        assert talk.backend.patience_s() == 0


def test_prompts_may_be_read_as_rows_of_one_pass(
    backend: GeneratorBackend, chat_path: Callable[[str], Path]
) -> None:
    rows = load(chat_path("qwen3"))
    rows._schedule._batch._on_cpu = False
    asked = {at: (says(question), GREEDY) for at, question in enumerate(QUESTIONS)}
    apart, together = answers(backend, asked), answers(rows, asked)
    assert [each.text for each in together.values()] == [each.text for each in apart.values()]
    assert all(heard.read[-1][0] == heard.read[-1][1] for heard in together.values())


def test_running_answers_go_on_while_a_long_prompt_is_read(backend: GeneratorBackend) -> None:
    talk = Talk(backend)
    talk.start(1, says("Hello"), Sampling(40, 0.0, top_logprobs=0))
    while not talk.heard[1].deltas:
        talk.step()
    talk.start(2, TokenIds([9] * 2000))
    said = len(talk.heard[1].tokens)
    for _ in range(6):
        talk.step()
    assert not talk.heard[2].deltas
    assert len(talk.heard[1].tokens) >= said + 4
    talk.run()


# --- texts and token ids -------------------------------------------------------------------------


def test_conversations_and_texts_are_tokenized(backend: GeneratorBackend) -> None:
    good, bad = says("Hello"), says()
    found, error = backend.tokenize_conversation(TokenizeConversation([1, 2], [good, bad]))
    assert isinstance(found, Tokens)
    assert isinstance(error, ServeError)
    assert len(found.ids) == answer(backend, good).finish.prompt_tokens
    text = backend.detokenize(Detokenize([1], [found.ids], skip_special=False))[0]
    assert text == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    (tokens,) = backend.tokenize(Tokenize([1], ["Hello"], special=True, pieces=False))
    assert isinstance(tokens, Tokens)
    assert tokens.ids
