"""The queue and the ledger: credit, turns, bounds, cancelling, and what follows a death."""

import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Batch
from mlx_serve_gateway.batcher import CREDIT, Batcher, BatchLimits
from mlx_serve_gateway.priority import Priority
from tests.unit.gateway.stub_call import StubCall, call


def batcher(**limits: int) -> Batcher:
    return Batcher(BatchLimits(**limits))


def take(queue: Batcher) -> list[int]:
    """The ids of the next batch; it has to be there."""
    batch = queue.take()
    assert batch is not None
    return ids_of(batch)


def ids_of(batch: Batch) -> list[int]:
    return [id for part in batch.parts for id in part.ids]


def offered(queue: Batcher, *calls: StubCall) -> None:
    for each in calls:
        queue.offer(each)


# --- sending -------------------------------------------------------------------------------------


def test_a_single_item_leaves_at_once() -> None:
    queue = batcher()
    only = call(1)
    queue.offer(only)

    assert take(queue) == only.ids
    assert queue.take() is None
    assert (queue.queued, queue.in_worker) == (0, 1)


def test_a_worker_never_holds_more_than_its_credit() -> None:
    queue = batcher(batch_items=2)
    queue.offer(call(10))

    batches = [queue.take() for _ in range(CREDIT)]
    assert all(batches)
    assert queue.take() is None
    assert queue.in_worker == 2 * CREDIT


def test_where_passes_are_long_an_interactive_call_waits_for_company() -> None:
    queue = batcher()
    queue.pass_s = 0.05
    offered(queue, call(1), call(1), call(1))
    first = take(queue)
    offered(queue, call(8), call(8), call(8), call(4))
    assert queue.take() is None
    queue.offer(call(4))
    second = take(queue)
    assert len(second) == 32

    queue.settle(first)
    queue.offer(call(1))
    assert queue.take() is None
    queue.settle(second)
    assert len(take(queue)) == 1


def test_who_wants_tokens_waits_for_nobody_and_nobody_for_him() -> None:
    queue = batcher(batch_items=1)
    queue.pass_s = 0.05
    busy = [call(1) for _ in range(4)]
    for each, priority in zip(busy, [Priority.INTERACTIVE, Priority.BULK] * 2, strict=True):
        each.priority = priority
    offered(queue, *busy)
    while queue.take() is not None:
        pass
    tokens = [call(1) for _ in range(CREDIT + 1)]
    for each in tokens:
        each.priority = Priority.CONVERSION
    offered(queue, *tokens)
    assert [take(queue) for _ in range(CREDIT)] == [each.ids for each in tokens[:CREDIT]]
    assert queue.take() is None

    queue.settle(busy[0].ids)
    offered(queue, call(1))
    assert len(take(queue)) == 1


def test_a_full_batch_is_company_enough() -> None:
    queue = batcher(batch_items=2)
    queue.pass_s = 0.05
    offered(queue, call(2), call(1))
    assert len(take(queue)) == 2
    assert queue.take() is None
    offered(queue, call(1))
    assert len(take(queue)) == 2


def test_a_bulk_load_always_has_one_batch_ahead() -> None:
    queue = batcher(batch_items=4)
    queue.pass_s = 0.05
    load = call(12)
    load.priority = Priority.BULK
    queue.offer(load)
    assert [len(take(queue)) for _ in range(CREDIT)] == [4, 4]


def test_credit_comes_back_with_the_last_item_of_a_batch() -> None:
    queue = batcher(batch_items=2)
    queue.offer(call(10))
    first, second = take(queue), take(queue)

    queue.settle(first[:1])
    assert queue.take() is None
    queue.settle(first[1:])
    assert take(queue)
    assert queue.take() is None
    queue.settle(second)
    assert take(queue)


def test_credit_comes_back_from_whichever_batch_is_done() -> None:
    queue = batcher(batch_items=2)
    queue.offer(call(10))
    take(queue)
    second = take(queue)

    queue.settle(second)
    assert queue.take() is not None


def test_items_leave_in_the_order_they_came() -> None:
    queue = batcher(batch_items=4)
    one, two = call(1), call(1)
    offered(queue, one, two)

    assert take(queue) == one.ids + two.ids


def test_a_batch_names_each_call_once() -> None:
    queue = batcher()
    one, two = call(3), call(2)
    offered(queue, one, two)
    batch = queue.take()

    assert batch is not None
    assert [list(part.ids) for part in batch.parts] == [one.ids, two.ids]


def test_a_single_query_does_not_wait_for_a_bulk_load() -> None:
    queue = batcher(batch_items=8)
    queue.offer(call(1000))
    bulk = [queue.take() for _ in range(CREDIT)]
    single = call(1)
    queue.offer(single)

    batch = queue.take()
    assert batch is not None and ids_of(batch) == single.ids
    assert batch.urgent
    assert not any(each.urgent for each in bulk if each is not None)


def test_a_bulk_load_gets_on_beside_interactive_calls() -> None:
    queue = batcher(batch_items=8)
    bulk = call(1000)
    offered(queue, bulk, *(call(1) for _ in range(50)))

    batches = [queue.take() for _ in range(2 * CREDIT)]
    assert [batch.urgent for batch in batches if batch] == [True] * CREDIT + [False] * CREDIT
    assert queue.take() is None


def test_what_the_caller_says_counts_more_than_the_size() -> None:
    queue = batcher(batch_items=8)
    large, small = call(20), call(1)
    large.priority, small.priority = Priority.INTERACTIVE, Priority.BULK
    offered(queue, small, large)

    assert [batch.urgent for _ in range(3) if (batch := queue.take())] == [True, True, False]


def test_a_long_text_is_a_bulk_load() -> None:
    queue = batcher()
    queue.offer(call(1, 100_000))

    batch = queue.take()
    assert batch is not None and not batch.urgent


def test_bulk_loads_deal_in_turns() -> None:
    queue = batcher(batch_items=8)
    one, two = call(100), call(100)
    offered(queue, one, two)

    for _ in range(3):
        sent = take(queue)
        assert len(set(sent) & set(one.ids)) == len(set(sent) & set(two.ids)) == 4
        queue.settle(sent)


def test_a_full_batch_is_sent_when_one_call_runs_dry() -> None:
    queue = batcher(batch_items=20)
    longer, shorter = call(100), call(9)
    offered(queue, longer, shorter)

    assert len(take(queue)) == 20


def test_more_calls_than_places_take_turns_from_batch_to_batch() -> None:
    queue = batcher(batch_items=4)
    calls = [call(2) for _ in range(6)]
    offered(queue, *calls)

    sent = take(queue) + take(queue)
    assert {each.first_id for each in calls} <= set(sent)


def test_a_batch_is_bounded_in_characters() -> None:
    queue = batcher(batch_characters=10)
    queue.offer(StubCall([4, 4, 4, 4]))

    assert [len(take(queue)), len(take(queue))] == [2, 2]


def test_an_item_over_the_bound_in_characters_goes_alone() -> None:
    queue = batcher(batch_characters=10)
    small, large = call(1), StubCall([50])
    offered(queue, small, large)

    assert take(queue) == small.ids
    assert take(queue) == large.ids


# --- bounds --------------------------------------------------------------------------------------


def assert_refused(queue: Batcher, refused: StubCall) -> None:
    before = (queue.queued, queue.in_worker)
    with pytest.raises(ServeError) as raised:
        queue.offer(refused)
    assert raised.value.code is ErrorCode.QUEUE_FULL
    assert raised.value.retry_after_s is not None
    assert (queue.queued, queue.in_worker) == before


def test_a_full_queue_refuses() -> None:
    queue = batcher(queue_items=10)
    queue.offer(call(8))

    assert_refused(queue, call(3))
    queue.offer(call(2))
    assert_refused(queue, call(1))


def test_a_queue_full_of_characters_refuses() -> None:
    queue = batcher(queue_characters=100)
    queue.offer(call(1, 60))

    assert_refused(queue, call(1, 41))
    queue.offer(call(1, 40))


def test_what_was_sent_makes_room_in_the_queue() -> None:
    queue = batcher(queue_items=10, queue_characters=100, batch_items=10)
    queue.offer(call(10, 10))
    take(queue)

    queue.offer(call(10, 10))
    assert_refused(queue, call(1))


def test_what_was_cancelled_makes_room_in_the_queue() -> None:
    queue = batcher(queue_items=10, queue_characters=100)
    gone = call(10, 10)
    queue.offer(gone)
    queue.cancel(gone)

    queue.offer(call(10, 10))


def test_an_empty_queue_takes_a_call_of_any_size() -> None:
    queue = batcher(queue_items=10)
    queue.offer(call(500))

    assert queue.queued == 500


def test_a_refused_call_may_be_cancelled() -> None:
    queue = batcher(queue_items=10)
    waiting, refused = call(10), call(1)
    queue.offer(waiting)
    assert_refused(queue, refused)

    assert queue.cancel(refused) == []
    assert queue.queued == 10


# --- cancelling ----------------------------------------------------------------------------------


def test_a_cancelled_call_is_never_sent() -> None:
    queue = batcher()
    gone, stays = call(3), call(1)
    offered(queue, gone, stays)

    assert queue.cancel(gone) == []
    assert take(queue) == stays.ids


def test_cancelling_tells_what_the_worker_should_drop() -> None:
    queue = batcher(batch_items=4)
    gone = call(10)
    queue.offer(gone)
    first, second = take(queue), take(queue)

    assert queue.cancel(gone) == sorted(first + second)
    assert queue.queued == 0
    assert queue.in_worker == 8


def test_a_late_answer_to_a_cancelled_call_is_nobodys() -> None:
    queue = batcher()
    gone = call(2)
    queue.offer(gone)
    sent = take(queue)
    queue.cancel(gone)

    assert queue.settle(sent) == [None, None]
    assert queue.is_empty


def test_an_answer_is_given_once() -> None:
    queue = batcher()
    only = call(1)
    queue.offer(only)
    sent = take(queue)

    assert queue.settle(sent) == [only]
    assert queue.settle(sent) == [None]
    assert queue.settle([12345]) == [None]


def test_a_cancelled_call_is_not_sent_again_after_a_death() -> None:
    queue = batcher(batch_items=2)
    gone, stays = call(2), call(2)
    offered(queue, gone, stays)
    take(queue)
    take(queue)
    queue.recover()

    queue.cancel(gone)
    resent = set()
    while not queue.is_empty:
        sent = take(queue)
        resent |= set(sent)
        queue.settle(sent)
    assert resent == set(stays.ids)


# --- a death -------------------------------------------------------------------------------------


def test_whoever_could_have_killed_the_worker_is_tried_alone() -> None:
    queue = batcher()
    only = call(3)
    queue.offer(only)
    take(queue)

    assert queue.recover().killers == []
    tried = []
    while not queue.is_empty:
        sent = take(queue)
        assert len(sent) == 1
        # Nothing may be with it: an answer can be lost in the crash of what runs after it, and
        # then the innocent one would be taken for the killer.
        assert queue.take() is None
        queue.settle(sent)
        tried += sent
    assert tried == only.ids


def test_who_kills_alone_is_a_killer() -> None:
    queue = batcher()
    pair = call(2)
    queue.offer(pair)
    take(queue)
    queue.recover()

    assert take(queue) == [pair.first_id]
    assert queue.recover().killers == [(pair, 0)]
    assert take(queue) == [pair.first_id + 1]
    queue.settle([pair.first_id + 1])
    assert queue.is_empty


def test_who_was_answered_before_the_death_is_not_computed_again() -> None:
    queue = batcher()
    only = call(3)
    queue.offer(only)
    sent = take(queue)
    queue.settle(sent[:2])
    queue.recover()

    assert take(queue) == sent[2:]
    queue.settle(sent[2:])
    assert queue.is_empty


def test_a_survivor_of_its_trial_starts_with_a_clean_slate() -> None:
    queue = batcher()
    only = call(1)
    queue.offer(only)
    take(queue)
    queue.recover()
    queue.settle(take(queue))

    again = call(1)
    queue.offer(again)
    take(queue)
    assert queue.recover().killers == []


def test_after_the_trials_the_worker_has_its_credit_back() -> None:
    queue = batcher(batch_items=1)
    suspected = call(1)
    queue.offer(suspected)
    take(queue)
    queue.recover()
    queue.settle(take(queue))
    queue.offer(call(CREDIT + 1))

    assert [queue.take() is not None for _ in range(CREDIT + 1)] == [True] * CREDIT + [False]


def test_trials_come_before_everything_else() -> None:
    queue = batcher()
    suspected, later = call(1), call(1)
    queue.offer(suspected)
    take(queue)
    queue.recover()
    queue.offer(later)

    assert take(queue) == suspected.ids
    queue.settle(suspected.ids)
    assert take(queue) == later.ids


def test_a_death_of_an_idle_worker_accuses_nobody() -> None:
    queue = batcher()
    waiting = call(1)
    queue.offer(waiting)

    assert queue.recover().killers == []
    assert take(queue) == waiting.ids


def test_a_worker_that_leaves_unaccused_gives_its_items_back() -> None:
    queue = batcher(batch_items=2)
    only, later = call(4), call(1)
    queue.offer(only)
    take(queue)
    take(queue)
    queue.offer(later)
    queue.take_back()

    assert queue.in_worker == 0
    assert queue.queued == 5
    assert take(queue) == only.ids[:2]
    assert take(queue) == only.ids[2:]
    assert queue.recover().killers == []


def test_a_suspect_stays_one_when_its_worker_is_taken_away() -> None:
    queue = batcher()
    only = call(2)
    queue.offer(only)
    take(queue)
    queue.recover()
    assert take(queue) == only.ids[:1]
    queue.take_back()

    assert take(queue) == only.ids[:1]
    assert queue.recover().killers == [(only, 0)]


def test_a_suspect_who_was_cancelled_in_the_worker_is_no_killer() -> None:
    queue = batcher()
    only = call(1)
    queue.offer(only)
    take(queue)
    queue.recover()
    take(queue)
    queue.cancel(only)

    assert queue.recover().killers == []
    assert queue.is_empty


def test_giving_up_returns_every_call_that_waits_once() -> None:
    queue = batcher(batch_items=2)
    answered, running, waiting = call(1), call(3), call(1)
    offered(queue, answered)
    queue.settle(take(queue))
    offered(queue, running, waiting)
    take(queue)

    given_up = queue.drain_calls()
    assert sorted(given_up, key=lambda each: each.first_id) == [running, waiting]
    assert queue.queued == 0
    assert queue.drain_calls() == []
    queue.recover()
    assert queue.is_empty


# --- answers that are generated -----------------------------------------------------------------


def test_a_chat_worker_holds_as_many_answers_as_it_has_credit_for() -> None:
    queue = batcher(credit=3, batch_items=1)
    offered(queue, *(call(1) for _ in range(5)))
    sent = [take(queue) for _ in range(3)]
    assert queue.take() is None
    queue.settle(sent[1])
    assert take(queue)
    assert queue.take() is None


def test_who_an_unfinished_answer_belongs_to_is_known_until_it_is_settled() -> None:
    queue = batcher(credit=3, batch_items=1)
    only = call(1)
    queue.offer(only)
    take(queue)
    assert queue.callers(only.ids) == [only]
    assert queue.callers(only.ids) == [only]
    queue.settle(only.ids)
    assert queue.callers(only.ids) == [None]


def test_answers_that_had_begun_are_lost_with_their_worker_and_what_waited_is_sent() -> None:
    queue = batcher(credit=2, batch_items=1)
    begun, other, waiting = (call(1, is_repeatable=False) for _ in range(3))
    offered(queue, begun, other, waiting)
    take(queue), take(queue)

    recovered = queue.recover()
    assert recovered.lost == [(begun, 0), (other, 0)]
    assert recovered.killers == []
    assert take(queue) == waiting.ids


def test_an_answer_that_was_alone_is_lost_like_the_others() -> None:
    queue = batcher(credit=2, batch_items=1)
    only = call(1, is_repeatable=False)
    queue.offer(only)
    take(queue)
    recovered = queue.recover()
    assert (recovered.killers, recovered.lost) == ([], [(only, 0)])
    assert queue.is_empty


def test_an_answer_that_had_begun_is_not_repeated_when_its_worker_leaves() -> None:
    queue = batcher(credit=3, batch_items=1)
    begun, repeatable = call(1, is_repeatable=False), call(1)
    offered(queue, begun, repeatable)
    take(queue), take(queue)
    assert queue.take_back() == [begun]
    assert take(queue) == repeatable.ids
    assert queue.callers(begun.ids) == [None]


# --- how old it is -------------------------------------------------------------------------------


def test_the_oldest_that_waits_is_known() -> None:
    queue = batcher(batch_items=1, credit=1)
    calls = [call(1), call(2), call(1)]
    for asked_at, each in enumerate(calls):
        each.asked_at = asked_at
    assert queue.waiting_since is None
    offered(queue, *calls)
    assert queue.waiting_since == 0
    first = take(queue)
    assert queue.waiting_since == 1
    queue.take_back()
    assert queue.waiting_since == 0, "it is to be sent again"
    assert take(queue) == first
    queue.recover()
    assert queue.waiting_since == 0, "it is to be tried alone"
    for each in calls:
        queue.cancel(each)
    assert queue.waiting_since is None
