"""Memory for answers, reserved before it is used."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from mlx_serve_worker.chat.room import STEP, Room, cost


def layer(per_token: int, **others: object) -> SimpleNamespace:
    keys = SimpleNamespace(shape=(1, 1, STEP, 1))
    return SimpleNamespace(keys=keys, nbytes=per_token * STEP, **others)


def test_a_layer_that_looks_back_over_a_window_costs_no_more() -> None:
    found = cost([layer(10), layer(4, max_size=512), SimpleNamespace(nbytes=7)])
    assert found.of(STEP) == 14 * STEP + 7
    assert found.of(4 * STEP) == 10 * 4 * STEP + 4 * 512 + 7
    assert found.of(1) == found.of(STEP)


def test_layers_within_layers_count() -> None:
    assert cost([SimpleNamespace(caches=[layer(1), layer(2)])]).of(STEP) == 3 * STEP


def test_every_row_costs_what_the_longest_does() -> None:
    room = Room(cost([layer(1)]), 4 * STEP)
    assert room.most_tokens == 4 * STEP
    assert room.reserve(1, STEP)
    assert room.reserve(2, 2 * STEP)
    assert room.used == 4 * STEP
    assert not room.reserve(3, 1)
    assert not room.reserve(1, 2 * STEP + 1)
    assert room.used == 4 * STEP
    room.release(2)
    assert room.used == STEP
    assert room.reserve(3, 1)


def test_without_anything_to_remember_there_is_no_end() -> None:
    assert Room(cost([]), 0).most_tokens > 2**30


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3000)), max_size=30),
    st.integers(0, 10_000),
)
def test_never_more_is_reserved_than_there_is(asked: list[tuple[int, int]], capacity: int) -> None:
    room = Room(cost([layer(1), layer(2, max_size=300)]), capacity)
    for id, tokens in asked:
        before = room.used
        if not tokens:
            room.release(id)
        elif not room.reserve(id, tokens):
            assert room.used == before
        assert room.used <= capacity
