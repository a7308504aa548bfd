"""A worker's turn, on a board that it shares and with a clock that only waiting moves."""

from collections.abc import Callable, Iterator

import pytest

from mlx_serve_common.turn_board import NO_FILE, Claim, Doing, TurnBoard
from mlx_serve_worker.lease import Lease

OTHER = 9


class World:
    """Another does what it does while a worker waits."""

    def __init__(self) -> None:
        self.board = TurnBoard(NO_FILE)
        self.now = 100.0
        self.meanwhile: Callable[[], None] = lambda: None
        self.looked = 0

    def lease(self, line: int = 0, places: int | None = 1) -> Lease:
        return Lease(
            self.board,
            line,
            places=places,
            patience_s=2.0,
            memory_bytes=lambda: 4096,
            now=lambda: self.now,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.looked += 1
        self.meanwhile()

    def other(self, doing: Doing) -> None:
        self.board.say(Claim(OTHER, doing, self.now, self.now))

    def other_computes(self, until: float) -> None:
        self.other(Doing.COMPUTING)
        self.meanwhile = lambda: self.other(Doing.NOTHING) if self.now >= until else None

    def doing(self) -> list[Doing]:
        return [claim.doing for claim in self.board.claims() if claim.line != OTHER]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.board.close()


def test_it_never_waits_while_nobody_else_computes(world: World) -> None:
    lease = world.lease()
    for _ in range(3):
        assert lease.take(lease.ask())
        assert world.doing() == [Doing.COMPUTING]
        lease.give_back()
        assert world.doing() == []
    assert world.looked == 0


def test_a_bulk_load_waits_for_the_end_of_another_turn(world: World) -> None:
    world.other_computes(until=100.05)
    lease = world.lease()
    assert lease.take(lease.ask())
    assert 100.05 <= world.now < 100.06
    assert world.board.told(0).waited_s == pytest.approx(world.now - 100)


def test_who_is_in_a_hurry_waits_for_nobody_and_is_seen(world: World) -> None:
    world.other_computes(until=1000)
    lease = world.lease()
    lease.hurry()
    assert world.doing() == [Doing.HURRYING]
    lease.give_back()
    assert world.doing() == []
    assert world.looked == 0


def test_it_waits_no_longer_than_it_may_and_not_again_for_the_same(world: World) -> None:
    world.other_computes(until=1000)
    lease = world.lease()
    assert lease.take(lease.ask())
    assert 102.0 <= world.now < 102.01
    lease.give_back()
    assert lease.take(lease.ask())
    assert world.now < 102.01


def test_without_a_limit_it_waits_only_for_who_is_in_a_hurry(world: World) -> None:
    lease = world.lease(places=None)
    world.other(Doing.COMPUTING)
    assert lease.take(lease.ask())
    assert world.looked == 0
    world.now += 0.1
    lease.give_back()
    world.other(Doing.HURRYING)
    assert lease.take(lease.ask())
    assert world.looked > 0


def test_a_wait_that_gave_way_goes_on_from_where_it_began(world: World) -> None:
    world.other_computes(until=1000)
    lease = world.lease()
    turn = lease.ask()
    assert not lease.take(turn, give_way=lambda: world.now >= 101)
    assert world.doing() == []
    assert lease.take(turn)
    assert world.now < 102.01


def test_it_is_due_when_it_has_waited_for_as_long_as_it_computes(world: World) -> None:
    lease = world.lease()
    lease.take(lease.ask())
    world.now += 0.1
    lease.give_back()

    # One step of a chat after the other.
    world.meanwhile = lambda: world.other(Doing.HURRYING)
    world.other(Doing.HURRYING)
    asked_at = world.now
    assert lease.take(lease.ask())
    assert 0.1 <= world.now - asked_at < 0.102


def test_a_query_in_between_does_not_change_when_it_is_due(world: World) -> None:
    lease = world.lease()
    lease.take(lease.ask())
    world.now += 0.1
    lease.give_back()
    lease.hurry()
    world.now += 0.7
    lease.give_back()
    turn = lease.ask()
    assert turn.due - turn.since == pytest.approx(0.1)


def test_it_tells_what_the_model_holds(world: World) -> None:
    lease = world.lease(3)
    lease.hurry()
    assert world.board.told(3).memory_bytes == 4096


def test_alone_it_needs_nobody() -> None:
    lease = Lease.alone()
    assert lease.take(lease.ask())
    lease.hurry()
    lease.give_back()
