"""Qwen3-Reranker: a language model that is asked whether a document fits a query.

Invariants: what all documents of a query have in common is computed once, not once per document
or per micro-batch, and remembered within a bound; the scores are those of whole inputs.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import mlx.core as mx

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest, YesOrNo
from mlx_serve_common.wire import Rerank
from mlx_serve_worker import weights
from mlx_serve_worker.assembly import fill_module
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.judge_prompt import JudgePrompt, Prefix
from mlx_serve_worker.model_folder import checked_max_tokens, read_config
from mlx_serve_worker.models.judge import JudgeModel, Past
from mlx_serve_worker.tokenization import TextTokenizer
from mlx_serve_worker.tokenizer_file import load_tokenizer

_MEMORY_BYTES = 512 * 1024**2


class PrefixMemory:
    """The pasts of the prefixes that were read last."""

    def __init__(self, read: Callable[[Sequence[int]], Past], max_bytes: int) -> None:
        self._read = read
        self._max_bytes = max_bytes
        self._pasts: OrderedDict[tuple[int, ...], Past] = OrderedDict()

    def __contains__(self, ids: tuple[int, ...]) -> bool:
        return ids in self._pasts

    def __getitem__(self, ids: tuple[int, ...]) -> Past:
        past = self._pasts.pop(ids, None) or self._read(ids)
        self._pasts[ids] = past
        while sum(past.bytes for past in self._pasts.values()) > self._max_bytes:
            self._pasts.popitem(last=False)
        return past


class Judge:
    def __init__(self, folder: Path, manifest: Manifest, head: YesOrNo) -> None:
        config = read_config(folder)
        self.model = JudgeModel(config)
        decoder = self.model.decoder
        if not 0 <= head.yes < decoder.vocab_size or not 0 <= head.no < decoder.vocab_size:
            raise ServeError(ErrorCode.INVALID_MODEL, "the manifest's answers are no tokens")
        self.texts = TextTokenizer(
            load_tokenizer(folder, manifest),
            vocab_size=decoder.vocab_size,
            max_tokens=checked_max_tokens(manifest, decoder.positions),
        )
        self._prompt = JudgePrompt(self.texts, head.instruction)
        files = weights.weight_files(folder)
        fill_module(self.model, config, files, self.model.parameter_name)
        self.model.keep_answers(head.yes, head.no)
        self._memory = PrefixMemory(self.model.read, _MEMORY_BYTES)

    def prepare(self, part: Rerank) -> list[Prepared | ServeError]:
        return self._prompt.prepare(part)

    def logits(self, inputs: Sequence[Prepared]) -> mx.array:
        groups: dict[tuple[int, ...] | None, list[int]] = defaultdict(list)
        for row, prepared in enumerate(inputs):
            groups[self._shared(prepared.context)].append(row)
        parts: list[mx.array] = []
        for prefix, rows in groups.items():
            start = len(prefix or ())
            ids = [inputs[row].token_ids[start:] for row in rows]
            parts.append(self.model(ids, None if prefix is None else self._memory[prefix]))
        order = mx.argsort(mx.array([row for rows in groups.values() for row in rows]))
        return mx.concatenate(parts)[order]

    def _shared(self, prefix: Prefix | None) -> tuple[int, ...] | None:
        """The prefix to compute separately; None if nothing is gained by it."""
        if prefix is not None and (prefix.repeats or prefix.ids in self._memory):
            return prefix.ids
        return None
