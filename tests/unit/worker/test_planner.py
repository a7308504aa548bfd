"""Micro-batches: every input once, similar lengths together, within both limits."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mlx_serve_worker.planner import plan


@given(
    lengths=st.lists(st.integers(1, 600), max_size=80),
    max_items=st.integers(1, 40),
    max_tokens=st.integers(1, 4096),
)
def test_every_position_once_and_both_limits_kept(
    lengths: list[int], max_items: int, max_tokens: int
) -> None:
    groups = plan(lengths, max_items=max_items, max_tokens=max_tokens)

    positions = [position for group in groups for position in group]
    assert sorted(positions) == list(range(len(lengths)))
    for group in groups:
        assert 0 < len(group) <= max_items
        padded = len(group) * max(lengths[position] for position in group)
        assert len(group) == 1 or padded <= max_tokens
    in_order = [lengths[position] for position in positions]
    assert in_order == sorted(in_order)


@given(
    lengths=st.lists(st.integers(1, 600), min_size=2, max_size=80),
    max_items=st.integers(2, 40),
    max_tokens=st.integers(1, 4096),
)
def test_no_group_could_take_the_next_input_too(
    lengths: list[int], max_items: int, max_tokens: int
) -> None:
    groups = plan(lengths, max_items=max_items, max_tokens=max_tokens)

    for group, following in pairwise(groups):
        padded = (len(group) + 1) * lengths[following[0]]
        assert len(group) == max_items or padded > max_tokens


def test_nothing_gives_nothing() -> None:
    assert plan([], max_items=8, max_tokens=100) == []


def test_an_input_over_the_budget_is_computed_alone() -> None:
    assert plan([5000, 10, 10], max_items=8, max_tokens=100) == [[1, 2], [0]]


def test_equal_lengths_keep_their_order() -> None:
    assert plan([7, 7, 7, 7], max_items=3, max_tokens=1000) == [[0, 1, 2], [3]]
