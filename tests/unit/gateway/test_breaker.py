"""The breaker: opens on the third death in a minute, heals by itself, grows stricter."""

from hypothesis import given
from hypothesis import strategies as st

from mlx_serve_gateway.breaker import DEATHS, FIRST_PAUSE_S, LONGEST_PAUSE_S, WINDOW_S, Breaker


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(DEATHS):
        breaker.record_death(at)
    return breaker


def test_is_closed_at_first() -> None:
    assert Breaker().open_for(0.0) is None


def test_two_deaths_are_forgiven() -> None:
    breaker = Breaker()
    breaker.record_death(0.0)
    breaker.record_death(1.0)

    assert breaker.open_for(1.0) is None


def test_the_third_death_within_a_minute_opens_it() -> None:
    breaker = Breaker()
    for at in (0.0, 30.0, WINDOW_S):
        breaker.record_death(at)

    assert breaker.open_for(WINDOW_S) == FIRST_PAUSE_S
    assert breaker.open_for(WINDOW_S + 10) == FIRST_PAUSE_S - 10


def test_deaths_that_are_further_apart_do_not() -> None:
    breaker = Breaker()
    for count in range(20):
        breaker.record_death(count * (WINDOW_S / 2 + 1))

    assert breaker.open_for(19 * (WINDOW_S / 2 + 1)) is None


def test_it_closes_after_its_pause() -> None:
    breaker = opened()

    assert breaker.open_for(FIRST_PAUSE_S - 0.001) is not None
    assert breaker.open_for(FIRST_PAUSE_S) is None


def test_one_more_death_before_an_answer_opens_it_for_twice_as_long() -> None:
    breaker = opened()
    breaker.record_death(100.0)

    assert breaker.open_for(100.0) == 2 * FIRST_PAUSE_S


def test_the_pause_doubles_up_to_its_longest() -> None:
    breaker = opened()
    pauses = []
    for count in range(1, 10):
        breaker.record_death(count * 10_000.0)
        pauses.append(breaker.open_for(count * 10_000.0))

    assert pauses[:4] == [60.0, 120.0, 240.0, 480.0]
    assert set(pauses[4:]) == {LONGEST_PAUSE_S}


def test_an_answer_ends_the_probation() -> None:
    breaker = opened()
    breaker.record_success()
    breaker.record_death(1000.0)
    assert breaker.open_for(1000.0) is None

    for _ in range(DEATHS):
        breaker.record_death(2000.0)
    assert breaker.open_for(2000.0) == FIRST_PAUSE_S


@given(st.lists(st.tuples(st.floats(0, 200), st.booleans()), max_size=60))
def test_is_never_open_for_longer_than_the_longest_pause(
    events: list[tuple[float, bool]],
) -> None:
    breaker = Breaker()
    now = 0.0
    for step, is_death in events:
        now += step
        if is_death:
            breaker.record_death(now)
        else:
            breaker.record_success()
        pause = breaker.open_for(now)
        # Times are rounded where they are added.
        assert pause is None or 0 < pause <= LONGEST_PAUSE_S + 1e-6
