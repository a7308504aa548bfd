"""mlx-lm's ``BatchGenerator``, with the reading of prompts bounded, and with tokens told sooner.

It tells a token when it has begun with the one after it, so that a GPU always has something to do.
A CPU has computed that one by then, so there each token is told when it is chosen; the first one of
an answer is everywhere.

Invariants: at most ``prefill_tokens`` of a new prompt are read between two steps of the running
answers (and a quarter more, if that is all of it), up to four times as many where several wait to
be read apart, and where nobody runs four times as many, or once for each that waits; what leaves
takes with it what it has read; each token is told once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_serve_worker.chat.member import Member
from mlx_serve_worker.chat.reader import Progress, Reader
from mlx_serve_worker.chat.sampling import Sampler
from mlx_serve_worker.chat.watched_model import WatchedModel
from mlx_serve_worker.mlx_lm_runtime import BatchGenerator

# More at a time make each wait longer for its first token.
MAX_READING = 8
_MOST_SHARES = 4
_SAMPLERS = 64


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


class _Chosen(NamedTuple):
    """By one call of a sampler, a row for each member."""

    logprobs: mx.array
    tokens: mx.array


@dataclass
class _Speaker:
    may_say: int
    """So many tokens, besides those that were told when they were chosen."""
    told: int | None = None
    """The token that was told, and that the generator has not."""


class Batch:
    """Its members are known by the keys that they are added with."""

    def __init__(
        self,
        model: WatchedModel,
        *,
        ends: Sequence[int],
        max_sequences: int,
        prefill_tokens: int,
        on_cpu: bool,
    ) -> None:
        """``on_cpu`` prompts are read one by one, not as rows of one pass, and what is asked for is
        computed before we can do anything else."""
        self._model = model
        self._ends = frozenset(ends)
        self._prefill_tokens = prefill_tokens
        self._on_cpu = on_cpu
        self._make = partial(
            BatchGenerator,
            model,
            stop_tokens=[[end] for end in ends],
            completion_batch_size=max_sequences,
            prefill_batch_size=max_sequences,
            prefill_step_size=prefill_tokens,
        )
        # Those that share a sampler are sampled in one go.
        self._listening = lru_cache(_SAMPLERS)(self._listen)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._generator = self._make()
        self._reader = Reader(self._model)
        self._keys: dict[int, int] = {}
        """By what the generator calls its members."""
        self._reading: dict[int, Member] = {}
        """Those whose prompt the generator reads, as they were given to it, by key."""
        self._speakers: dict[int, _Speaker] = {}
        """Those whose prompt is read, by key."""
        self._chosen: list[_Chosen] = []
        """In the current step; its rows stand in the generator's order."""

    @property
    def can_read_more(self) -> bool:
        return len(self._reading) + len(self._reader) < MAX_READING

    @property
    def patience_s(self) -> float:
        """For how long company is worth waiting for, as long as nobody runs."""
        return self._reader.patience_s

    @property
    def _budget(self) -> int:
        """The more wait to be read one by one, the longer others may wait for their next token.

        Where nobody runs, all are read: who had said a word would wait with the next one until the
        others are read as well.
        """
        waiting = len(self._reader)
        shares = (
            min(_MOST_SHARES, max(1, waiting)) if self._speakers else max(_MOST_SHARES, waiting)
        )
        return self._prefill_tokens * shares

    def add(self, key: int, member: Member) -> None:
        if self._on_cpu and member.known + 1 < len(member.prompt):
            self._reader.add(key, member)
        else:
            self._insert(key, member)

    def _insert(self, key: int, member: Member) -> None:
        (uid,) = self._generator.insert(
            [list(member.prompt[member.known :])],
            max_tokens=[member.max_tokens],
            caches=[member.cache],
            all_tokens=[list(member.prompt[: member.known])],
            samplers=[self._listening(member.sampler)],
            logits_processors=[list(member.processors)],
        )
        self._keys[uid] = key
        self._reading[key] = member

    def _listen(self, sampler: Sampler) -> Sampler:
        def sample(logprobs: mx.array) -> mx.array:
            tokens = sampler(logprobs)
            self._chosen.append(_Chosen(logprobs, tokens))
            return tokens

        return sample

    def remove(self, keys: Collection[int]) -> dict[int, Left]:
        """Those that were being continued leave what they have read and said."""
        self._reader.remove(keys)
        uids = {uid: key for uid, key in self._keys.items() if key in keys}
        done = [uid for uid, key in uids.items() if key not in self._reading]
        with mx.stream(self._generator.stream):
            left = self._generator.extract_cache(done)
            self._generator.remove([*uids])
        for uid, key in uids.items():
            del self._keys[uid]
            self._reading.pop(key, None)
        self._forget(keys)
        return {uids[uid]: Left(list(tokens), cache) for uid, (cache, tokens) in left.items()}

    def step(self) -> tuple[list[Progress], list[Token], dict[int, Left]]:
        """Which prompts were read how far, the next tokens, and what those that end leave."""
        budget = self._budget
        progress, whole = self._reader.read(budget)
        for key, member in whole.items():
            self._insert(key, member)
        if self._reading:
            self._generator.prefill_step_size = max(1, budget // len(self._reading))
        self._chosen.clear()
        read, said = self._generator.next()
        for each in read:
            key = self._keys[each.uid]
            known = self._reading[key].known
            progress.append(Progress(key, each.progress[0] + known, each.progress[1] + known))
        began = [self._keys[each.uid] for each in read if each.end_of_prompt]
        for key in began:
            self._speakers[key] = _Speaker(may_say=self._reading.pop(key).max_tokens)
        tokens = [token for each in said if (token := self._token(each)) is not None]
        running = [None if each.finish_reason else self._keys[each.uid] for each in said]
        tokens += self._told_at_once([*running, *began] if self._on_cpu else began)
        left = {
            self._keys.pop(each.uid): Left(each.all_tokens, each.prompt_cache)
            for each in said
            if each.finish_reason is not None
        }
        self._forget(left)
        return progress, tokens, left

    def _token(self, said: Any) -> Token | None:
        """None if it was told when it was chosen."""
        key = self._keys[said.uid]
        speaker = self._speakers[key]
        told, speaker.told = speaker.told, None
        if told is None:
            is_last = said.finish_reason is not None
            return Token(key, said.token, said.logprobs, said.finish_reason == "stop", is_last)
        if told != said.token:
            raise RuntimeError("mlx-lm samples in another order than it tells")
        return None

    def _told_at_once(self, keys: Sequence[int | None]) -> list[Token]:
        """What was chosen for them, who are the last rows of this step."""
        if not keys:
            return []
        rows = slice(-len(keys), None)
        ids: Any = mx.concatenate([each.tokens for each in self._chosen])[rows].tolist()
        logprobs = mx.concatenate([each.logprobs for each in self._chosen])[rows]
        tokens: list[Token] = []
        for key, id, logprob in zip(keys, ids, logprobs, strict=True):
            if key is not None:
                speaker = self._speakers[key]
                speaker.told, speaker.may_say = id, speaker.may_say - 1
                is_end = id in self._ends
                tokens.append(Token(key, id, logprob, is_end, is_end or speaker.may_say == 0))
        return tokens

    def _forget(self, keys: Collection[int]) -> None:
        for key in keys:
            self._speakers.pop(key, None)

    def clear(self) -> None:
        """Forget all, whatever state it is in."""
        self._generator.close()
        self._begin_anew()
