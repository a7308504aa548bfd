"""What is concluded from the times of passes: tables, no clock."""

from collections.abc import Callable

import pytest

from mlx_serve_worker.sweep import Pass, Sweep, chosen


def passes(**seconds: float) -> dict[int, Pass]:
    found = {int(budget.removeprefix("of_")): each for budget, each in seconds.items()}
    return {budget: Pass(budget, each) for budget, each in found.items()}


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        # Twice the tokens in twice the time: nothing is gained by waiting for them.
        (passes(of_128=0.1, of_256=0.2, of_512=0.4), 128),
        # A small pass costs nearly what a large one does.
        (passes(of_128=0.1, of_256=0.11, of_512=0.12), 512),
        # The last step gains less than a tenth.
        (passes(of_256=0.2, of_512=0.3, of_1024=0.55), 512),
        # It gains much, and takes too long for whoever waits.
        (passes(of_256=0.8, of_512=0.9, of_1024=1.1), 512),
        # Everything takes too long: the shortest.
        (passes(of_128=2.0, of_256=2.1), 128),
        (passes(of_128=0.1), 128),
    ],
)
def test_the_smallest_that_computes_about_as_much(measured: dict[int, Pass], expected: int) -> None:
    assert chosen(measured) == expected


def test_what_was_computed_counts_not_what_would_have_fitted() -> None:
    # Inputs of 100 tokens fill one budget better than the other.
    assert chosen({128: Pass(100, 0.1), 256: Pass(200, 0.2)}) == 128


def swept(sweep: Sweep, seconds: Callable[[int, int], float]) -> list[int]:
    """The budgets that were asked for; ``seconds`` of a budget's pass and its number."""
    asked: list[int] = []
    while (budget := sweep.next()) is not None:
        sweep.add(budget, Pass(budget, seconds(budget, asked.count(budget))))
        asked.append(budget)
    return asked


def test_all_are_measured_in_turn_until_a_time_was_reached_twice() -> None:
    sweep = Sweep([512, 128, 256])
    assert swept(sweep, lambda budget, number: budget / 1000) == [128, 256, 512] * 3
    assert sweep.is_steady
    assert sweep.chosen() == 128


def test_a_slow_first_pass_is_no_reason_to_go_on() -> None:
    sweep = Sweep([128, 256])
    assert len(swept(sweep, lambda budget, number: 0.1 if number else 5.0)) == 6
    assert sweep.chosen() == 256


def test_a_busy_machine_is_seen_in_bounded_time() -> None:
    sweep = Sweep([128, 256])
    # Each time another: none is reached again.
    assert len(swept(sweep, lambda budget, number: 0.1 * 1.2**number)) == 16
    assert not sweep.is_steady


def test_one_moment_of_rest_is_enough() -> None:
    sweep = Sweep([128, 256])
    asked = swept(sweep, lambda budget, number: 0.1 if number >= 4 else 0.1 * 1.3 ** (number + 1))
    assert len(asked) == 12
    assert sweep.is_steady


def test_larger_passes_than_one_that_takes_too_long_are_not_tried_again() -> None:
    sweep = Sweep([128, 256, 512, 1024])
    asked = swept(sweep, lambda budget, number: budget / 200)
    assert asked == [128, 256] * 3
    assert sweep.chosen() == 128
