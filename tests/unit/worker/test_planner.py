"""Micro-batches: every input once, similar lengths together, within both limits."""

from itertools import combinations, pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_serve_worker.planner import plan


@given(
    lengths=st.lists(st.integers(1, 600), max_size=80),
    max_items=st.integers(1, 40),
    max_tokens=st.integers(1, 4096),
    padding_cost=st.sampled_from([0.25, 1.0]),
)
def test_every_position_once_and_both_limits_kept(
    lengths: list[int], max_items: int, max_tokens: int, padding_cost: float
) -> None:
    groups = plan(lengths, max_items=max_items, max_tokens=max_tokens, padding_cost=padding_cost)

    positions = [position for group in groups for position in group]
    assert sorted(positions) == list(range(len(lengths)))
    for group in groups:
        assert 0 < len(group) <= max_items
        found = tokens([lengths[position] for position in group], padding_cost)
        assert len(group) == 1 or found <= max_tokens
    in_order = [lengths[position] for position in positions]
    assert in_order == sorted(in_order)


@given(
    lengths=st.lists(st.integers(1, 60), max_size=9),
    max_items=st.integers(1, 6),
    max_tokens=st.integers(1, 300),
    padding_cost=st.sampled_from([0.25, 1.0]),
)
def test_no_other_way_to_cut_costs_less(
    lengths: list[int], max_items: int, max_tokens: int, padding_cost: float
) -> None:
    groups = plan(lengths, max_items=max_items, max_tokens=max_tokens, padding_cost=padding_cost)

    found = cost([[lengths[at] for at in group] for group in groups], max_tokens, padding_cost)
    assert found == pytest.approx(least_cost(sorted(lengths), max_items, max_tokens, padding_cost))


def tokens(group: list[int], padding_cost: float) -> float:
    padding = len(group) * max(group) - sum(group)
    return sum(group) + padding_cost * padding


def cost(groups: list[list[int]], max_tokens: int, padding_cost: float) -> float:
    """Tokens, and a sixteenth of the budget for each pass."""
    return sum(tokens(group, padding_cost) + max_tokens / 16 for group in groups)


def least_cost(ascending: list[int], max_items: int, max_tokens: int, padding_cost: float) -> float:
    """By trying each way."""
    tries = []
    for places in range(len(ascending)):
        for cuts in combinations(range(1, len(ascending)), places):
            edges = pairwise([0, *cuts, len(ascending)])
            groups = [ascending[start:stop] for start, stop in edges]
            if all(
                len(group) == 1
                or (len(group) <= max_items and tokens(group, padding_cost) <= max_tokens)
                for group in groups
            ):
                tries.append(cost(groups, max_tokens, padding_cost))
    return min(tries, default=0)


@pytest.mark.parametrize("padding_cost", [0.25, 1.0])
def test_padding_of_a_mixed_load_stays_below_eight_percent(padding_cost: float) -> None:
    random = Random(0)
    lengths = [min(256, max(3, round(random.lognormvariate(3.33, 0.85)))) for _ in range(512)]
    groups = plan(lengths, max_items=32, max_tokens=512, padding_cost=padding_cost)

    padded = sum(len(group) * lengths[group[-1]] for group in groups)
    assert sum(lengths) >= 0.92 * padded


def test_nothing_gives_nothing() -> None:
    assert plan([], max_items=8, max_tokens=100) == []


def test_an_input_over_the_budget_is_computed_alone() -> None:
    assert plan([5000, 10, 10], max_items=8, max_tokens=100) == [[1, 2], [0]]


def test_equal_lengths_keep_their_order() -> None:
    assert plan([7, 7, 7, 7], max_items=3, max_tokens=1000) == [[0], [1, 2, 3]]
