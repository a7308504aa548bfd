"""mlx-lm's ``BatchGenerator``, with the reading of prompts bounded as a whole.

Invariants: at most ``prefill_tokens`` of all new prompts together are read between two steps of the
running answers, and a few times as many while there is none; what leaves takes with it what it has
read.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_serve_worker.chat.penalties import Processor
from mlx_serve_worker.chat.sampling import Sampler
from mlx_serve_worker.chat.watched_model import WatchedModel
from mlx_serve_worker.mlx_lm_runtime import BatchGenerator

# More at a time make each wait longer for its first token.
MAX_READING = 8
_MORE_ALONE = 4


class Member(NamedTuple):
    """What is to be continued, and how."""

    prompt: Sequence[int]
    known: int
    """So many of the prompt's tokens are in ``cache``."""
    cache: list[Any]
    max_tokens: int
    sampler: Sampler
    processors: Sequence[Processor]


class Token(NamedTuple):
    key: int
    id: int
    logprobs: mx.array
    is_end: bool
    is_last: bool


class Left(NamedTuple):
    """What a member has read and said, and what that has left in the layers."""

    tokens: list[int]
    cache: list[Any]


class Batch:
    def __init__(
        self, model: WatchedModel, *, ends: Sequence[int], max_sequences: int, prefill_tokens: int
    ) -> None:
        self._prefill_tokens = prefill_tokens
        self._make = partial(
            BatchGenerator,
            model,
            stop_tokens=[[end] for end in ends],
            completion_batch_size=max_sequences,
            prefill_batch_size=max_sequences,
            prefill_step_size=prefill_tokens,
        )
        self._generator = self._make()
        self._reading: dict[int, int] = {}
        """How many tokens of each prompt were known before."""
        self._saying: set[int] = set()

    @property
    def can_read_more(self) -> bool:
        return len(self._reading) < MAX_READING

    def add(self, member: Member) -> int:
        (key,) = self._generator.insert(
            [list(member.prompt[member.known :])],
            max_tokens=[member.max_tokens],
            caches=[member.cache],
            all_tokens=[list(member.prompt[: member.known])],
            samplers=[member.sampler],
            logits_processors=[list(member.processors)],
        )
        self._reading[key] = member.known
        return int(key)

    def remove(self, keys: Sequence[int]) -> dict[int, Left]:
        """Those that were being continued leave what they have read and said."""
        done = [key for key in keys if key not in self._reading]
        with mx.stream(self._generator.stream):
            left = self._generator.extract_cache(done)
            self._generator.remove(keys)
        for key in keys:
            self._reading.pop(key, None)
        self._saying.difference_update(keys)
        return {key: Left(list(tokens), cache) for key, (cache, tokens) in left.items()}

    def step(self) -> tuple[list[tuple[int, int, int]], list[Token], dict[int, Left]]:
        """Which prompts were read how far, the next tokens, and what those that end leave."""
        if self._reading:
            budget = self._prefill_tokens * (1 if self._saying else _MORE_ALONE)
            self._generator.prefill_step_size = max(1, budget // len(self._reading))
        read, said = self._generator.next()
        progress = []
        for each in read:
            known = self._reading[each.uid]
            progress.append((each.uid, each.progress[0] + known, each.progress[1] + known))
            if each.end_of_prompt:
                del self._reading[each.uid]
                self._saying.add(each.uid)
        tokens = [
            Token(
                each.uid,
                each.token,
                each.logprobs,
                each.finish_reason == "stop",
                each.finish_reason is not None,
            )
            for each in said
        ]
        left = {
            each.uid: Left(each.all_tokens, each.prompt_cache)
            for each in said
            if each.finish_reason is not None
        }
        self._saying.difference_update(left)
        return progress, tokens, left

    def clear(self) -> None:
        """Forget all, whatever state it is in."""
        self._generator.close()
        self._generator = self._make()
        self._reading.clear()
        self._saying.clear()
