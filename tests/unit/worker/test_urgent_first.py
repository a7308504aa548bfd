"""The queue between two threads of a worker."""

import threading

from mlx_serve_worker.urgent_first import UrgentFirst


class Word(str):
    @property
    def urgent(self) -> bool:
        return self.startswith("urgent")


def queue(*items: str) -> UrgentFirst[Word]:
    made: UrgentFirst[Word] = UrgentFirst()
    for item in items:
        made.put(Word(item))
    return made


def taking(made: UrgentFirst[Word]) -> tuple[threading.Thread, list[Word | None]]:
    """A thread that waits for the next one."""
    taken: list[Word | None] = []
    thread = threading.Thread(target=lambda: taken.append(made.take()))
    thread.start()
    return thread, taken


def test_all_leave_in_order_and_then_none() -> None:
    made = queue("first", "second")
    made.close()

    assert [made.take() for _ in range(3)] == ["first", "second", None]


def test_take_waits() -> None:
    made = queue()
    thread, taken = taking(made)
    made.put(Word("it"))
    thread.join(5)

    assert taken == ["it"]


def test_who_does_not_want_to_wait_gets_nothing() -> None:
    assert queue().take(wait=False) is None


def test_closing_wakes_whoever_waits() -> None:
    made = queue()
    thread, taken = taking(made)
    made.close()
    thread.join(5)

    assert taken == [None]


def test_what_is_urgent_leaves_first_and_then_one_of_each_in_turn() -> None:
    made = queue("a", "b", "urgent c", "urgent d", "urgent e", "urgent f")

    taken = [made.take() for _ in range(6)]
    assert taken == ["urgent c", "a", "urgent d", "b", "urgent e", "urgent f"]


def test_what_was_taken_between_others_was_its_turn() -> None:
    made = queue("a", "urgent b", "urgent c")
    made.take_urgent()

    assert [made.take() for _ in range(2)] == ["a", "urgent c"]


def test_only_what_is_urgent_is_taken_between_others() -> None:
    made = queue("a")
    assert made.take_urgent() is None and not made.has_urgent()
    made.put(Word("urgent b"))

    assert made.has_urgent()
    assert made.take_urgent() == "urgent b"
    assert made.take_urgent() is None


def test_it_is_idle_until_something_comes_or_ends_it() -> None:
    assert queue().stays_idle(0.001)
    assert not queue("a").stays_idle(60)
    closed = queue()
    closed.close()
    assert not closed.stays_idle(60)
