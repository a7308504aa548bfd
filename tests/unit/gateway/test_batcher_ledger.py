"""The ledger as a state machine: whatever happens, each item ends once, and only as it may."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlx_serve_common.errors import ServeError
from mlx_serve_gateway.batcher import Batcher, BatchLimits
from mlx_serve_gateway.priority import Priority
from tests.unit.gateway.stub_call import StubCall

LIMITS = BatchLimits(queue_items=40, queue_characters=200, batch_items=5, batch_characters=30)


class Ledger(RuleBasedStateMachine):
    limits = LIMITS

    def __init__(self) -> None:
        super().__init__()
        self.batcher = Batcher(self.limits)
        self.calls: dict[int, StubCall] = {}
        """Every item that has not ended, and whose it is."""
        self.in_worker: list[list[int]] = []
        self.sent_as: dict[int, Priority] = {}
        """Items in the worker."""
        self.trials: set[int] = set()
        """Items that were in a dying worker and have not ended since."""

    @property
    def held(self) -> list[int]:
        return [id for batch in self.in_worker for id in batch]

    # --- what can happen -------------------------------------------------------------------------

    @rule(
        sizes=st.lists(st.integers(0, 20), min_size=1, max_size=12),
        repeatable=st.booleans(),
        priority=st.sampled_from([None, *Priority]),
    )
    def offer(self, sizes: list[int], repeatable: bool, priority: Priority | None) -> None:
        call = StubCall(sizes, is_repeatable=repeatable)
        call.priority = priority
        waiting = self.batcher.queued
        try:
            self.batcher.offer(call)
        except ServeError:
            assert waiting > 0
            return
        assert not self.calls.keys() & set(call.ids), "an id was given twice"
        self.calls |= dict.fromkeys(call.ids, call)

    @rule()
    def take(self) -> None:
        waiting = self.calls.keys() - set(self.held)
        batch = self.batcher.take()
        if batch is None:
            for priority in {self.calls[id].priority for id in waiting}:
                assert not self._has_room(priority), "items wait although the worker has room"
            return
        ids = [id for part in batch.parts for id in part.ids]
        (priority,) = {Priority.BULK if self.trials else self.calls[id].priority for id in ids}
        assert priority is not None and self._has_room(priority)
        assert batch.urgent is (priority is not Priority.BULK)
        assert 0 < len(set(ids)) == len(ids) <= self.limits.batch_items
        assert set(ids) <= self.calls.keys(), "an ended item was sent"
        assert not set(ids) & set(self.held), "an item was sent twice"
        self.in_worker.append(ids)
        self.sent_as |= dict.fromkeys(ids, priority)

    @precondition(lambda self: self.in_worker)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        batch = self.in_worker[0]
        count = data.draw(st.integers(1, len(batch)))
        answered = data.draw(st.permutations(batch))[:count]
        calls = self.batcher.settle(answered)
        assert calls == [self.calls.get(id) for id in answered]
        self._leave_worker(answered)
        self._end(answered)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        call = data.draw(
            st.sampled_from(sorted(set(self.calls.values()), key=lambda c: c.first_id))
        )
        told = self.batcher.cancel(call)
        assert told == sorted(set(call.ids) & set(self.held))
        self._end(call.ids)

    @rule()
    def worker_dies(self) -> None:
        held = [id for id in self.held if id in self.calls]
        self.in_worker.clear()
        recovered = self.batcher.recover()
        killers = [call.first_id + index for call, index in recovered.killers]
        assert killers == sorted(self.trials & set(held)), "who is a killer, and who is not"
        assert not killers or len(held) == 1, "a killer was not alone"
        lost = [call.first_id + index for call, index in recovered.lost]
        assert lost == self._begun(held), "whose answer may have begun, and whose not"
        self._end(killers + lost)
        self.trials |= set(held) - set(killers + lost)

    @rule()
    def worker_leaves(self) -> None:
        held = [id for id in self.held if id in self.calls]
        self.in_worker.clear()
        lost = self._begun(held)
        assert self.batcher.take_back() == [self.calls[id] for id in lost]
        self._end(lost)

    @rule()
    def give_up(self) -> None:
        given_up = self.batcher.drain_calls()
        # A call whose items were all sent and answered is over; any other is returned, once.
        assert len(given_up) == len(set(map(id, given_up)))
        assert set(given_up) == set(self.calls.values())
        self._end(list(self.calls))

    # --- what must hold --------------------------------------------------------------------------

    @invariant()
    def every_item_is_in_one_place(self) -> None:
        assert self.batcher.in_worker == len(self.held)
        assert self.batcher.queued == len(self.calls.keys() - set(self.held))

    @invariant()
    def a_suspect_is_alone_in_the_worker(self) -> None:
        if self.trials & set(self.held):
            assert len(self.held) == 1

    def teardown(self) -> None:
        """A worker that keeps answering gets to the end of it."""
        for _ in range(10_000):
            self.take()
            if not self.in_worker:
                break
            answered = self.in_worker[0]
            assert self.batcher.settle(answered) == [self.calls.get(id) for id in answered]
            self._leave_worker(answered)
            self._end(answered)
        assert not self.calls
        assert self.batcher.is_empty
        self._assert_the_whole_queue_is_free()

    def _assert_the_whole_queue_is_free(self) -> None:
        largest = StubCall([LIMITS.queue_characters - 1])
        self.batcher.offer(StubCall([1]))
        self.batcher.offer(largest)

    def _has_room(self, priority: Priority | None) -> bool:
        if self.trials:
            return not self.in_worker
        held = [batch for batch in self.in_worker if self.sent_as[batch[0]] is priority]
        return len(held) < self.limits.credit

    def _begun(self, held: list[int]) -> list[int]:
        """What cannot be computed again: part of the answer may be with the client."""
        return sorted(id for id in held if not self.calls[id].is_repeatable)

    def _leave_worker(self, ids: list[int]) -> None:
        left = [[id for id in batch if id not in ids] for batch in self.in_worker]
        self.in_worker = [batch for batch in left if batch]

    def _end(self, ids: list[int]) -> None:
        for id in ids:
            self.calls.pop(id, None)
        self.trials.difference_update(ids)


class ChatLedger(Ledger):
    """Of a worker that holds many batches of one item."""

    limits = msgspec.structs.replace(LIMITS, credit=6, batch_items=1)


TestLedger = Ledger.TestCase
TestChatLedger = ChatLedger.TestCase
TestLedger.settings = TestChatLedger.settings = settings(max_examples=100, stateful_step_count=40)
