"""Whose turn it is: bulk loads give way to who waits for an answer, and get on all the same."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_serve_common.turn_board import Claim, Doing
from mlx_serve_worker.turns import may_compute

NOW = 10.0
PATIENCE_S = 2.0


def waits(line: int, since: float, due: float) -> Claim:
    return Claim(line, Doing.WAITING, since, due)


def computes(line: int, since: float = 9.9) -> Claim:
    return Claim(line, Doing.COMPUTING, since, since)


def hurries(line: int, since: float = 9.9) -> Claim:
    return Claim(line, Doing.HURRYING, since, since)


def may(mine: Claim, *others: Claim, places: int = 1) -> bool:
    return may_compute(mine, [mine, *others], NOW, places=places, patience_s=PATIENCE_S)


NOT_DUE, DUE = waits(0, 9.9, 10.1), waits(0, 9.5, 9.9)


def test_alone_it_computes() -> None:
    assert may(NOT_DUE) and may(DUE)


def test_it_gives_way_to_who_is_in_a_hurry_until_it_is_due() -> None:
    assert not may(NOT_DUE, hurries(1))
    assert may(DUE, hurries(1), hurries(2))


@pytest.mark.parametrize("mine", [NOT_DUE, DUE])
def test_it_waits_for_other_bulk_loads_due_or_not(mine: Claim) -> None:
    assert not may(mine, computes(1))


def test_places_are_counted() -> None:
    assert may(NOT_DUE, computes(1), places=2)
    assert not may(NOT_DUE, computes(1), computes(2), places=2)
    # Who is in a hurry needs none.
    assert not may(NOT_DUE, hurries(1), places=2)
    assert may(DUE, computes(1), hurries(2), places=2)


def test_who_is_due_first_goes_first() -> None:
    late = waits(2, 9.0, 10.5)
    assert may(NOT_DUE, late) and not may(late, NOT_DUE)
    same = waits(1, 9.0, NOT_DUE.due)
    assert may(NOT_DUE, same) and not may(same, NOT_DUE)


@pytest.mark.parametrize("other", [computes, hurries])
def test_who_has_done_the_same_for_too_long_is_not_waited_for(
    other: Callable[[int, float], Claim],
) -> None:
    assert not may(NOT_DUE, other(1, NOW - PATIENCE_S + 0.01))
    assert may(NOT_DUE, other(1, NOW - PATIENCE_S))


def test_who_waits_and_does_not_move_is_not_waited_for() -> None:
    assert may(NOT_DUE, waits(1, NOW - PATIENCE_S, 8.1))


def test_nobody_waits_longer_than_its_patience() -> None:
    impatient = waits(0, NOW - PATIENCE_S, 11)
    assert may(impatient, computes(1), hurries(2), waits(3, 9.9, 9.95))


times = st.floats(5, NOW)
drawn = st.lists(st.tuples(st.sampled_from(Doing), times, st.floats(0, 3)), min_size=1, max_size=8)


@given(drawn, st.integers(1, 3))
def test_a_free_place_is_taken_and_none_twice(
    drawn: list[tuple[Doing, float, float]], places: int
) -> None:
    """Of those that are due, whoever is in a hurry."""
    board = [
        Claim(line, doing, since, min(NOW, since + later))
        for line, (doing, since, later) in enumerate(drawn)
        if doing is not Doing.NOTHING
    ]
    fresh = [claim for claim in board if NOW - claim.since < PATIENCE_S]
    computing = sum(claim.doing is Doing.COMPUTING for claim in fresh)
    waiting = [claim for claim in fresh if claim.doing is Doing.WAITING]
    going = [claim for claim in waiting if may(claim, *board, places=places)]
    assert len(going) == min(len(waiting), max(0, places - computing))
