"""Prompts that are read before their answers begin, on as many lanes as there are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import pytest

from mlx_serve_worker import lanes
from mlx_serve_worker.chat import reader as reader_module
from mlx_serve_worker.chat.loading import Loaded, load
from mlx_serve_worker.chat.member import Member
from mlx_serve_worker.chat.reader import Reader
from mlx_serve_worker.chat.watched_model import WatchedModel
from tests.clock import FakeClock

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def loaded(chat_path: Callable[[str], Path]) -> Loaded:
    return load(chat_path("qwen3"), None)


@pytest.fixture(params=[1, 2, 4])
def lane_count(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    count: int = request.param
    monkeypatch.setattr(lanes, "count", lambda: count)
    return count


def member(loaded: Loaded, length: int, known: int = 0) -> Member:
    prompt = [5 + at % 300 for at in range(length)]
    cache = loaded.make_cache()
    if known:
        loaded.model(mx.array([prompt[:known]]), cache=cache)
    return Member(prompt, known, cache, 9, lambda logits: logits, [])


def following(loaded: Loaded, read: Member) -> mx.array:
    """What comes after the prompt, if what was left of it is read."""
    return loaded.model(mx.array([read.prompt[read.known :]]), cache=read.cache)[:, -1]


def read_all(reader: Reader, budget: int) -> dict[int, Member]:
    found: dict[int, Member] = {}
    while len(reader):
        found |= reader.read(budget)[1]
    return found


@pytest.mark.parametrize("budget", [50, 256, 5000])
def test_a_prompt_is_read_as_in_one_pass(loaded: Loaded, lane_count: int, budget: int) -> None:
    lengths = {1: 300, 2: 2, 3: 411, 4: 150, 5: 77}
    reader = Reader(loaded.model)
    for key, length in lengths.items():
        reader.add(key, member(loaded, length, known=40 if key == 3 else 0))
    found = read_all(reader, budget)
    assert found.keys() == lengths.keys()
    for key, length in lengths.items():
        assert found[key].known == length - 1
        whole = following(loaded, member(loaded, length))
        assert mx.allclose(following(loaded, found[key]), whole, atol=1e-4), key


def test_the_first_are_read_first_and_no_more_than_a_quarter_too_much(
    loaded: Loaded, lane_count: int
) -> None:
    reader = Reader(loaded.model)
    for key in range(6):
        reader.add(key, member(loaded, 301))
    order: list[int] = []
    done = dict.fromkeys(range(6), 0)
    while len(reader):
        progress, whole = reader.read(256)
        now = {each.key: each.done for each in progress}
        assert sum(now[key] - done[key] for key in now) <= 320
        assert all(each.total == 301 for each in progress)
        done |= now
        order += whole
    assert order == [*range(6)]
    assert set(done.values()) == {300}


@pytest.mark.parametrize(
    ("cores", "is_idle_otherwise", "parts"),
    [(2, False, [79]), (2, True, [40, 39]), (16, False, [79]), (16, True, [20, 20, 20, 19])],
)
def test_a_short_prompt_is_parted_where_cores_were_idle_otherwise(
    loaded: Loaded,
    cores: int,
    is_idle_otherwise: bool,
    parts: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "count", lambda: cores)
    monkeypatch.setattr(lanes, "leave_cores_idle", lambda: is_idle_otherwise)
    read: list[int] = []

    def model(tokens: mx.array, cache: list[Any]) -> mx.array:
        read.append(tokens.shape[1])
        return loaded.model(tokens, cache=cache)

    reader = Reader(cast("WatchedModel", model))
    reader.add(0, member(loaded, 80))
    found = read_all(reader, 1024)[0]
    assert read == parts
    whole = following(loaded, member(loaded, 80))
    assert mx.allclose(following(loaded, found), whole, atol=1e-4)


def test_no_prompt_is_torn_where_a_little_more_is_all_of_it(
    loaded: Loaded, lane_count: int
) -> None:
    reader = Reader(loaded.model)
    reader.add(0, member(loaded, 100))
    read_all(reader, 1024)  # how fast it reads is known only now
    for key in range(1, 5):
        reader.add(key, member(loaded, 289))
    progress, whole = reader.read(1024)
    assert [each.done for each in progress] == [288] * len(progress)
    assert len(whole) == len(progress) >= 3


def test_a_slow_model_reads_less_at_a_time(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty tokens a second: nothing is heard of it for five seconds, not for a minute."""
    clock = FakeClock()
    monkeypatch.setattr(reader_module, "monotonic", clock)
    reader = Reader(loaded.model)
    compute = reader._compute

    def slowly(pieces: list[Any]) -> None:
        clock.advance(sum(len(piece.tokens) for piece in pieces) / 20)
        compute(pieces)

    monkeypatch.setattr(reader, "_compute", slowly)
    reader.add(1, member(loaded, 1001))
    steps = []
    known = 0
    while len(reader):
        (progress,), _ = reader.read(1024)
        steps.append(progress.done - known)
        known = progress.done
    assert steps[0] <= 160
    assert all(95 <= step <= 105 for step in steps[1:-1])
    assert known == 1000


def test_others_are_waited_for_a_small_part_of_what_reading_takes(loaded: Loaded) -> None:
    reader = Reader(loaded.model)
    reader.add(1, member(loaded, 1001))
    assert reader.patience_s == reader_module._MOST_PATIENCE_S  # how fast it reads is not known
    reader._learn(1000, 1.0)
    reader.remove([1])
    assert reader.patience_s == 0
    for key, (length, known) in enumerate([(101, 0), (151, 50)]):
        reader.add(key, member(loaded, length, known))
    assert reader.patience_s == pytest.approx(0.05 * 0.2)
    reader.add(3, member(loaded, 3000))
    assert reader.patience_s == reader_module._MOST_PATIENCE_S


def test_who_leaves_is_not_read(loaded: Loaded) -> None:
    reader = Reader(loaded.model)
    for key in range(3):
        reader.add(key, member(loaded, 100))
    reader.remove([0, 2, 7])
    assert [*read_all(reader, 64)] == [1]
