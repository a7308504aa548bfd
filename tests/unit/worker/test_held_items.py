"""Which items a worker holds, and whose callers have left."""

from mlx_serve_worker.held_items import HeldItems


def holding(*ids: int) -> HeldItems:
    held = HeldItems()
    held.add(ids)
    return held


def test_a_cancelled_item_is_known_until_it_is_settled() -> None:
    held = holding(1, 2)
    held.cancel([2])

    assert not held.is_cancelled(1)
    assert held.is_cancelled(2)
    held.settle([1, 2])
    assert not held.is_cancelled(2)


def test_a_cancellation_for_what_is_not_held_is_not_remembered() -> None:
    held = holding(1)
    held.settle([1])
    held.cancel([1, 99])
    held.add([1, 99])

    assert not held.is_cancelled(1)
    assert not held.is_cancelled(99)
