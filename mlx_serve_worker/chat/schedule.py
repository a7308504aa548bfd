"""Which answers run, and which wait for a place or for memory.

Invariants: answers begin in the order in which they were asked for; memory is reserved before it is
used, and what is kept of earlier prompts gives way to it; an answer whose length nobody has limited
ends where the memory does; one that fails ends alone.
"""

from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.backend import Step
from mlx_serve_worker.chat.answer import Answer
from mlx_serve_worker.chat.batch import Batch, Left, Token
from mlx_serve_worker.chat.member import Member
from mlx_serve_worker.chat.prompt_cache import PromptCache
from mlx_serve_worker.chat.room import STEP, Room
from mlx_serve_worker.failure_log import log_failure

_SHARES = 8


class Schedule:
    def __init__(
        self,
        batch: Batch,
        room: Room,
        prompts: PromptCache,
        *,
        make_cache: Callable[[], list[Any]],
        max_sequences: int,
    ) -> None:
        self._batch = batch
        self._room = room
        self._prompts = prompts
        self._make_cache = make_cache
        self._max_sequences = max_sequences
        self._waiting: deque[Answer] = deque()
        self._running: dict[int, Answer] = {}

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._running

    def add(self, answer: Answer) -> None:
        most, prompt = self._room.most_tokens, len(answer.prompt)
        if prompt >= most:
            raise ServeError(
                ErrorCode.CONTEXT_LENGTH_EXCEEDED,
                f"the prompt has {prompt} tokens; the memory that is set aside for prompt and"
                f" answer holds {most}",
                param="messages",
            )
        # As where the model's context ends: many clients ask for far more than they need.
        answer.max_tokens = min(answer.max_tokens, most - prompt)
        self._waiting.append(answer)

    def stop(self, ids: Collection[int]) -> None:
        gone = set(ids)
        self._waiting = deque(each for each in self._waiting if each.id not in gone)
        self._leave([id for id in self._running if id in gone], {})

    def patience_s(self) -> float:
        self._admit()
        return self._batch.patience_s

    def step(self) -> Step:
        self._admit()
        step = Step([], [], [])
        try:
            read, tokens, left = self._batch.step()
        except Exception:
            self._give_up(step)
            return step
        step.read.extend(read)
        over = [token.key for token in tokens if self._hear(token, step)]
        self._leave(over, left, lost={id for id, _ in step.failed})
        return step

    def _admit(self) -> None:
        while self._waiting and self._begin(self._waiting[0]):
            self._waiting.popleft()

    def _begin(self, answer: Answer) -> bool:
        if len(self._running) >= self._max_sequences or not self._batch.can_read_more:
            return False
        length = len(answer.prompt) + answer.max_tokens
        if not answer.is_limited:
            # Enough for most, or the memory would end an answer because of its neighbours.
            usual = max(STEP, self._room.most_tokens // _SHARES)
            length = min(length, len(answer.prompt) + usual, self._room.most_tokens)
        if not self._room.reserve(answer.id, length):
            return False
        known = self._prompts.find(answer.prompt)
        self._make_room()
        self._batch.add(
            answer.id,
            Member(
                prompt=answer.prompt,
                known=0 if known is None else known.tokens,
                cache=self._make_cache() if known is None else known.cache,
                max_tokens=answer.max_tokens,
                sampler=answer.sampler,
                processors=answer.processors,
            ),
        )
        answer.begin(0 if known is None else known.tokens)
        self._running[answer.id] = answer
        return True

    def _hear(self, token: Token, step: Step) -> bool:
        """Whether this was the last of the answer."""
        answer = self._running[token.key]
        try:
            delta = answer.hear(token, must_end=not self._has_room(answer))
        except ServeError as error:
            step.failed.append((answer.id, error))
            return True
        if delta is not None:
            step.said.append((answer.id, delta))
        return delta is not None and delta.finish is not None

    def _has_room(self, answer: Answer) -> bool:
        """For the token after the one that comes now: it is computed while that one is told."""
        reserved = self._room.reserved(answer.id)
        if answer.tokens + 2 <= reserved or answer.said_tokens + 1 >= answer.max_tokens:
            return True
        more = min(reserved + STEP, self._room.most_tokens)
        if more == reserved or not self._room.reserve(answer.id, more):
            return False
        self._make_room()
        return True

    def _leave(self, ids: list[int], left: dict[int, Left], lost: Collection[int] = ()) -> None:
        """``lost`` are those whose cache is good for nothing."""
        if others := [id for id in ids if id not in left]:
            left = left | self._batch.remove(others)
        for id in ids:
            del self._running[id]
            self._room.release(id)
            if id in left and id not in lost:
                self._prompts.keep(left[id].tokens, left[id].cache)
        self._make_room()

    def _give_up(self, step: Step) -> None:
        """A step has failed: nobody can say in which state the batch is."""
        log_failure(f"a step over {len(self._running)} answers failed")
        message = "the model failed while it was answering"
        for answer in self._running.values():
            self._room.release(answer.id)
            step.failed.append((answer.id, ServeError(ErrorCode.INFERENCE_FAILED, message)))
        self._running.clear()
        self._batch.clear()

    def _make_room(self) -> None:
        self._prompts.shrink(self._room.capacity - self._room.used)
