"""The queue of one model and the ledger of what its worker holds. Pure: no process, no clock.

Natural batching: a worker holds one batch running and one ahead; while both are out, items gather.
Where a pass takes much longer than the way to the worker and back, what is asked interactively
waits for company instead of going ahead: few large passes compute more than many small ones.
(A chat worker holds many batches of one item: its answers join and leave a batch of its own.)
Interactive calls, bulk loads and whoever wants tokens alone have queues and credit of their own, so
that a query is with its worker at once, and the worker lets it go first.

Invariants: every offered item is in exactly one place (queued, to be sent again, or in the worker)
until it is settled or its call is cancelled. When a worker dies, every item it held may have killed
it, for its last answers can be lost: each gets one try alone, unless its answer has begun. What
still waited here is no suspect.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Batch, Part
from mlx_serve_gateway.calls import Call, by_call
from mlx_serve_gateway.priority import PRIORITIES, Priority, priority_by_size

CREDIT = 2
"""One batch running, one ahead, of each priority."""
_LONG_PASS_S = 0.005
"""The way to the worker and back takes a fifth of it."""
_ENOUGH_COMPANY = 32
"""A pass over so many inputs gains next to nothing from more."""


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    credit: int = CREDIT
    """Batches of one priority that the worker holds at a time."""
    queue_items: int = 4096
    queue_characters: int = 64 * 1024 * 1024
    batch_items: int = 128
    batch_characters: int = 128 * 1024


class Recovered(NamedTuple):
    """Items that a dead worker held and that are not sent again."""

    killers: list[tuple[Call, int]]
    """They were tried alone in it, and it died again."""
    lost: list[tuple[Call, int]]
    """Part of their answer may be with the client already."""


class _Sent(NamedTuple):
    """A batch in the worker, and what of it is not answered yet."""

    priority: Priority
    ids: set[int]


class Batcher:
    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._next_id = 1
        self._queues: dict[Priority, deque[Call]] = {each: deque() for each in Priority}
        self._again: dict[Priority, deque[int]] = {each: deque() for each in Priority}
        self._alone: deque[int] = deque()
        self._suspected: set[int] = set()
        self._calls: dict[int, Call] = {}
        """The ledger: whose answer an id is, for items that were handed out."""
        self._in_worker: list[_Sent] = []
        self._queued_items = 0
        self._queued_characters = 0
        self.pass_s = 0.0
        """How long the worker's last pass took."""

    @property
    def queued(self) -> int:
        """Items waiting here."""
        again = sum([len(ids) for ids in self._again.values()])
        return self._queued_items + len(self._alone) + again

    @property
    def waiting_since(self) -> float | None:
        """When the oldest request with an item here was made."""
        ids = chain(self._alone, *self._again.values())
        again = (self._calls[id] for id in ids if id in self._calls)
        return min((call.asked_at for call in chain(*self._queues.values(), again)), default=None)

    @property
    def in_worker(self) -> int:
        return sum(len(sent.ids) for sent in self._in_worker)

    @property
    def is_full_batch(self) -> bool:
        """Waiting for company would not make the next batch larger."""
        return self.queued >= self._limits.batch_items or self.queued > self._queued_items

    @property
    def is_empty(self) -> bool:
        return not self.queued and not self._in_worker

    # --- requests --------------------------------------------------------------------------------

    def offer(self, call: Call) -> None:
        characters = sum(call.sizes)
        queued = self.queued
        if queued and (
            queued + call.size > self._limits.queue_items
            or self._queued_characters + characters > self._limits.queue_characters
        ):
            raise ServeError(
                ErrorCode.QUEUE_FULL,
                f"{queued} inputs are already waiting for this model; try again shortly",
                retry_after_s=1,
            )
        call.priority = call.priority or priority_by_size(call.size, characters)
        call.first_id = self._next_id
        self._next_id += call.size
        self._queued_items += call.size
        self._queued_characters += characters
        self._queues[call.priority].append(call)

    def cancel(self, call: Call) -> list[int]:
        """Forget a call; what its worker should drop is returned."""
        for queue in self._queues.values():
            if call in queue:
                queue.remove(call)
                self._leave_queue(call, call.size - call.sent)
        ids = range(call.first_id, call.first_id + call.sent)
        for id in ids:
            self._calls.pop(id, None)
            self._suspected.discard(id)
        for waiting in (self._alone, *self._again.values()):
            for id in [id for id in waiting if id in ids]:
                waiting.remove(id)
        return [id for id in self._held() if id in ids]

    # --- the worker ------------------------------------------------------------------------------

    def take(self) -> Batch | None:
        """The next batch for the worker, unless it has enough or nothing waits."""
        if self._suspected:
            # Who is tried alone has the worker to itself: an answer lost in the crash of what runs
            # next would make an innocent one the killer.
            return None if self._in_worker else self._send(Priority.BULK, [self._alone.popleft()])
        for priority in PRIORITIES:
            if self._waits(priority) and self._has_credit(priority):
                return self._send(priority, list(self._next_ids(priority)))
        return None

    def _waits(self, priority: Priority) -> bool:
        return bool(self._queues[priority] or self._again[priority])

    def _has_credit(self, priority: Priority) -> bool:
        held = len([sent for sent in self._in_worker if sent.priority is priority])
        if held == 0 or held >= self._limits.credit:
            return held == 0
        if priority is not Priority.INTERACTIVE or self.pass_s < _LONG_PASS_S:
            return True
        waiting = sum(call.size - call.sent for call in self._queues[priority])
        return waiting >= min(_ENOUGH_COMPANY, self._limits.batch_items)

    def settle(self, ids: Sequence[int]) -> list[Call | None]:
        """The worker answered these; whose they are (None where the caller has left)."""
        for sent in self._in_worker:
            sent.ids.difference_update(ids)
        # An emptied batch gives its credit back, whichever came first.
        self._in_worker = [sent for sent in self._in_worker if sent.ids]
        self._suspected.difference_update(ids)
        return [self._calls.pop(id, None) for id in ids]

    def callers(self, ids: Sequence[int]) -> list[Call | None]:
        """Whose items these are, which the worker still holds."""
        return [self._calls.get(id) for id in ids]

    def take_back(self) -> list[Call]:
        """The worker left through no fault of its items: send them again.

        Returns the calls that cannot be: part of their answer may be with the client already.
        """
        held = [id for id in self._held() if id in self._calls]
        lost = [self._calls.pop(id) for id in held if not self._calls[id].is_repeatable]
        for sent in reversed(self._in_worker):
            for id in sorted(sent.ids, reverse=True):
                if id in self._suspected:
                    self._alone.appendleft(id)
                elif id in self._calls:
                    self._again[sent.priority].appendleft(id)
        self._in_worker.clear()
        return lost

    def recover(self) -> Recovered:
        """The worker died: send again what it held, alone, and tell what is not."""
        held = self._held()
        self._in_worker.clear()
        recovered = Recovered([], [])
        for id in held:
            call = self._calls.get(id)
            if call is None:
                continue
            is_killer = id in self._suspected
            if call.is_repeatable and not is_killer:
                self._suspected.add(id)
                self._alone.append(id)
                continue
            self._suspected.discard(id)
            del self._calls[id]
            ended = recovered.killers if is_killer else recovered.lost
            ended.append((call, id - call.first_id))
        return recovered

    def drain_calls(self) -> list[Call]:
        """Empty everything; returns each call that still waited for an answer."""
        calls = self.calls()
        for call in calls:
            self.cancel(call)
        return calls

    def calls(self) -> list[Call]:
        """Each that waits for an answer."""
        return list(dict.fromkeys(chain(*self._queues.values(), self._calls.values())))

    # --- inside ----------------------------------------------------------------------------------

    def _held(self) -> list[int]:
        return sorted(id for sent in self._in_worker for id in sent.ids)

    def _send(self, priority: Priority, ids: list[int]) -> Batch:
        self._in_worker.append(_Sent(priority, set(ids)))
        return Batch(self._parts(ids), urgent=priority is not Priority.BULK)

    def _next_ids(self, priority: Priority) -> Iterator[int]:
        queue, again = self._queues[priority], self._again[priority]
        room = self._limits.batch_items
        while again and room:
            room -= 1
            yield again.popleft()
        characters = self._limits.batch_characters
        # Calls deal in turns, so that none is stuck behind a larger one.
        share = max(1, room // max(1, len(queue)))
        while queue and room:
            call = queue.popleft()
            most = min(share, room, call.size - call.sent)
            is_first = room == self._limits.batch_items
            count, characters = _fitting(call, most, characters, is_first=is_first)
            room -= count
            yield from self._hand_out(call, count)
            if count < most:
                queue.appendleft(call)
                return
            if call.sent < call.size:
                queue.append(call)

    def _hand_out(self, call: Call, count: int) -> range:
        first = call.first_id + call.sent
        ids = range(first, first + count)
        self._calls.update(dict.fromkeys(ids, call))
        self._leave_queue(call, count)
        call.sent += count
        return ids

    def _leave_queue(self, call: Call, count: int) -> None:
        """The next items of those that wait."""
        self._queued_items -= count
        self._queued_characters -= sum(call.sizes[call.sent : call.sent + count])

    def _parts(self, ids: list[int]) -> list[Part]:
        calls = by_call([self._calls[id] for id in ids], ids)
        return [call.part(items) for call, items in calls.items()]


def _fitting(call: Call, most: int, room: int, *, is_first: bool) -> tuple[int, int]:
    """How many of its next items fit into so many characters, and how many these leave; the first
    item of a batch fits whatever its size.
    """
    sizes = call.sizes[call.sent : call.sent + most]
    if (total := sum(sizes)) <= room:
        return most, room - total
    count = 0
    for size in sizes:
        if size > room and not (is_first and count == 0):
            break
        room -= size
        count += 1
    return count, room
