"""Parts of a forward pass that are computed side by side."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_worker import device, lanes
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.blas import Blas
from mlx_serve_worker.lanes import side_by_side, split

pytestmark = pytest.mark.engine


def prepared(length: int, start: int) -> Prepared:
    return Prepared(token_ids=[start + at for at in range(length)], length=length, truncated=False)


@pytest.mark.parametrize("lengths", [[1], [100] * 8, [*range(1, 90)], [1, 1, 1, 900], [900, 1, 1]])
@pytest.mark.parametrize("most", [1, 2, 8])
def test_every_input_is_in_one_part(lengths: list[int], most: int) -> None:
    parts = split(lengths, most, 64)
    assert 1 <= len(parts) <= most
    assert [at for part in parts for at in range(len(lengths))[part]] == [*range(len(lengths))]


def test_parts_are_about_as_large_as_each_other() -> None:
    lengths = [*range(1, 65)]
    tokens = [sum(lengths[part]) for part in split(lengths, 4, 64)]
    assert len(tokens) == 4
    assert max(tokens) < 1.2 * min(tokens)


def test_little_work_is_not_parted() -> None:
    assert split([60, 60], 8, 64) == [slice(0, 2)]
    assert split([5000], 8, 64) == [slice(0, 1)]


@pytest.fixture
def in_lanes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """How a library for two lanes was set up, one time after the other."""
    told: list[bool] = []
    fake = Blas("fake", set_up=told.append, threads=2, lanes=2, configuration="fake")
    monkeypatch.setattr(lanes, "blas", lambda: fake)
    return told


@pytest.mark.skipif(device.current().fuses, reason="a GPU computes a pass as one")
def test_answers_stand_in_the_order_of_the_inputs(in_lanes: list[bool]) -> None:
    inputs = [prepared(40, 1000 * at) for at in range(16)]
    passes: list[int] = []

    def compute(some: Sequence[Prepared]) -> mx.array:
        passes.append(len(some))
        return mx.array([each.token_ids for each in some]).sum(axis=1) * mx.ones((3, 1))[0]

    together = side_by_side(compute, inputs)
    assert passes == [8, 8]
    assert np.array_equal(np.array(together), [sum(each.token_ids) for each in inputs])
    assert in_lanes == [True, False]


@pytest.mark.skipif(device.current().fuses, reason="a GPU computes a pass as one")
def test_a_few_tokens_are_computed_by_one_thread(in_lanes: list[bool]) -> None:
    few = [prepared(5, 0), prepared(6, 0)]
    assert side_by_side(lambda some: mx.array([len(some)]), few).tolist() == [2]
    assert in_lanes == [True, False]

    more = [prepared(16, 0), prepared(17, 0)]
    assert side_by_side(lambda some: mx.array([len(some)]), more).tolist() == [2]
    assert in_lanes == [True, False]


@pytest.mark.skipif(device.current().fuses, reason="a GPU computes a pass as one")
def test_a_pass_that_fails_leaves_the_threads_as_they_were(in_lanes: list[bool]) -> None:
    def compute(some: Sequence[Prepared]) -> mx.array:
        return mx.ones((2, 3)) @ mx.ones((2, 3))

    with pytest.raises(ValueError, match="matmul"):
        side_by_side(compute, [prepared(200, 0), prepared(200, 0)])
    # Before the threads are touched: products of the wrong shapes fail when they are asked for.
    assert in_lanes == []


@pytest.mark.skipif(device.current().fuses, reason="a GPU computes a pass as one")
def test_a_library_that_uses_one_core_is_given_smaller_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[bool] = []
    fake = Blas("fake", set_up=told.append, threads=1, lanes=2, configuration="fake")
    monkeypatch.setattr(lanes, "blas", lambda: fake)

    inputs = [prepared(24, 0), prepared(24, 0)]
    assert side_by_side(lambda some: mx.array([len(some)]), inputs).tolist() == [1, 1]
    assert told == [True, False]
    # Its one thread waits for no other.
    few = [prepared(5, 0), prepared(6, 0)]
    assert side_by_side(lambda some: mx.array([len(some)]), few).tolist() == [2]
    assert told == [True, False]


def test_without_an_optimised_blas_a_pass_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "blas", lambda: None)
    whole = [prepared(200, 0), prepared(200, 0)]
    assert side_by_side(lambda some: mx.array([len(some)]), whole).tolist() == [2]
