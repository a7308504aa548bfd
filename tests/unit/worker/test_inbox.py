"""The inbox between the worker's two threads."""

import threading

from mlx_serve_common.wire import Batch, Embed
from mlx_serve_worker.inbox import Inbox


def batch(*ids: int) -> Batch:
    return Batch([Embed(list(ids), ["x"] * len(ids), "float", "right")])


def test_batches_leave_in_order_and_then_none() -> None:
    inbox = Inbox()
    first, second = batch(1), batch(2)
    inbox.put(first)
    inbox.put(second)
    inbox.close()

    assert inbox.take() is first
    assert inbox.take() is second
    assert inbox.take() is None


def test_take_waits_for_a_batch() -> None:
    inbox = Inbox()
    taken: list[Batch | None] = []
    thread = threading.Thread(target=lambda: taken.append(inbox.take()))
    thread.start()
    expected = batch(1)
    inbox.put(expected)
    thread.join(5)

    assert taken == [expected]


def test_closing_wakes_whoever_waits() -> None:
    inbox = Inbox()
    taken: list[Batch | None] = []
    thread = threading.Thread(target=lambda: taken.append(inbox.take()))
    thread.start()
    inbox.close()
    thread.join(5)

    assert taken == [None]


def test_a_cancelled_item_is_known_until_it_is_settled() -> None:
    inbox = Inbox()
    inbox.put(batch(1, 2))
    inbox.cancel([2])

    assert not inbox.is_cancelled(1)
    assert inbox.is_cancelled(2)
    inbox.settle([1, 2])
    assert not inbox.is_cancelled(2)


def test_cancelling_still_works_while_the_batch_is_computed() -> None:
    inbox = Inbox()
    inbox.put(batch(1, 2))
    inbox.take()
    inbox.cancel([2])

    assert inbox.is_cancelled(2)


def test_a_cancellation_for_what_is_not_held_is_not_remembered() -> None:
    inbox = Inbox()
    inbox.put(batch(1))
    inbox.settle([1])
    inbox.cancel([1, 99])
    inbox.put(batch(99))

    assert not inbox.is_cancelled(1)
    assert not inbox.is_cancelled(99)


def urgent(*ids: int) -> Batch:
    return Batch(batch(*ids).parts, urgent=True)


def test_urgent_batches_leave_first() -> None:
    inbox = Inbox()
    others, hurried = [batch(1), batch(2)], [urgent(3), urgent(4)]
    for each in (*others, *hurried):
        inbox.put(each)

    assert [inbox.take() for _ in range(4)] == [*hurried, *others]


def test_only_urgent_batches_are_taken_between_others() -> None:
    inbox = Inbox()
    inbox.put(batch(1))
    assert inbox.take_urgent() is None
    hurried = urgent(2)
    inbox.put(hurried)

    assert inbox.take_urgent() is hurried
    assert inbox.take_urgent() is None
