"""Who gets a place, and who gives one up."""

import pytest

from mlx_serve_gateway.connections.places import Places


class Guest:
    def __init__(self) -> None:
        self.has_left = False

    def leave(self) -> None:
        self.has_left = True


@pytest.fixture
def places() -> Places[Guest]:
    return Places(2)


def taken(places: Places[Guest], count: int) -> list[Guest]:
    guests = [Guest() for _ in range(count)]
    assert all(places.take(guest) for guest in guests)
    return guests


def test_as_many_as_there_are_and_no_more(places: Places[Guest]) -> None:
    guests = taken(places, 2)

    assert not places.take(Guest())
    assert not any(guest.has_left for guest in guests)


def test_a_place_that_is_given_back_is_taken_again(places: Places[Guest]) -> None:
    guest, _ = taken(places, 2)
    places.give_back(guest)
    places.give_back(guest)

    assert places.take(Guest())
    assert not places.take(Guest())


def test_who_is_idle_the_longest_makes_room(places: Places[Guest]) -> None:
    first, second = taken(places, 2)
    places.idle(second)
    places.idle(first)

    assert places.take(Guest())
    assert (first.has_left, second.has_left) == (False, True)


def test_who_is_busy_again_does_not(places: Places[Guest]) -> None:
    first, second = taken(places, 2)
    for guest in (first, second):
        places.idle(guest)
    places.busy(first)

    assert places.take(Guest())
    assert (first.has_left, second.has_left) == (False, True)
    assert not places.take(Guest())


def test_who_has_left_is_not_asked_again(places: Places[Guest]) -> None:
    first, second = taken(places, 2)
    places.idle(first)
    assert places.take(Guest())
    places.idle(first)

    assert not places.take(Guest())
    assert not second.has_left
