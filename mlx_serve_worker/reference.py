"""The reference implementation, for comparing with: sentence-transformers and transformers.

Neither is a dependency. Invariants: imported by jobs and never by a worker; nothing is fetched, no
code of the model's is run; what a model's files leave open is what the manifest decided.
"""

import logging
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mlx_serve_common.models import Manifest, Normalize, Pooling, YesOrNo
from mlx_serve_worker.judge_prompt import AFTER, BEFORE, QUESTION
from mlx_serve_worker.modules import MODULES_FILE
from mlx_serve_worker.probe import Row

log = logging.getLogger(__name__)

_BATCH = 4


class NotComparable(Exception):
    """There is nothing to compare with; the message says why."""


class Encoder:
    """A sentence-transformers model."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        _go_offline()
        try:
            import sentence_transformers
            import torch
        except ImportError:
            raise NotComparable("sentence-transformers is not installed") from None
        self.name = f"sentence-transformers {version('sentence-transformers')}"
        torch.set_grad_enabled(False)
        try:
            if (folder / MODULES_FILE).exists():
                model = sentence_transformers.SentenceTransformer(
                    str(folder), device="cpu", local_files_only=True
                )
            else:
                model = _assembled(sentence_transformers, folder, manifest)
            self._model = model.float().eval()
        except Exception as error:
            raise _unreadable(self.name, error) from error

    def vectors(self, texts: Sequence[str], prompt: str) -> Row:
        try:
            rows = self._model.encode(
                list(texts), prompt=prompt, batch_size=_BATCH, show_progress_bar=False
            )
        except Exception as error:
            raise _failed(self.name, error) from error
        return np.asarray(rows, np.float64)


def _assembled(library: Any, folder: Path, manifest: Manifest) -> Any:
    """A model whose files say nothing of pooling, as our table of families has it."""
    modules = library.models
    steps: list[Any] = [modules.Transformer(str(folder), max_seq_length=manifest.max_tokens)]
    for step in manifest.pipeline:
        match step:
            case Pooling([mode]):
                steps.append(modules.Pooling(manifest.dimensions, pooling_mode=mode))
            case Normalize():
                steps.append(modules.Normalize())
            case _:
                raise NotComparable("its files do not say how its layers are put together")
    return library.SentenceTransformer(modules=steps, device="cpu")


class Scorer:
    """A transformers model that gives one logit for a query and a document."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        _go_offline()
        try:
            import torch
            import transformers
        except ImportError:
            raise NotComparable("transformers and torch are not installed") from None
        self.name = f"transformers {version('transformers')}"
        self._manifest = manifest
        torch.set_grad_enabled(False)
        head = "CausalLM" if isinstance(manifest.head, YesOrNo) else "SequenceClassification"
        path = str(folder / manifest.transformer_folder)
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                path, local_files_only=True
            )
            loader = getattr(transformers, f"AutoModelFor{head}")
            self._model = loader.from_pretrained(path, local_files_only=True).float().eval()
        except Exception as error:
            raise _unreadable(self.name, error) from error

    def logits(self, query: str, documents: Sequence[str]) -> Row:
        try:
            return np.array([self._logit(query, document) for document in documents])
        except Exception as error:
            raise _failed(self.name, error) from error

    def _logit(self, query: str, document: str) -> float:
        head = self._manifest.head
        if isinstance(head, YesOrNo):
            return self._of_next_token(head, query, document)
        return self._of_classes(query, document)

    def _of_classes(self, query: str, document: str) -> float:
        prompt = self._manifest.prompts.get(self._manifest.default_prompt or "", "")
        # In lists: an empty document alone would count as none.
        encoded = self._tokenizer(
            [prompt + query],
            [document],
            truncation="only_second",
            max_length=self._manifest.max_tokens,
            return_tensors="pt",
        )
        logits = self._model(**encoded).logits[0]
        return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])

    def _of_next_token(self, head: YesOrNo, query: str, document: str) -> float:
        import torch

        before, after = (
            self._tokenizer.encode(text, add_special_tokens=False) for text in (BEFORE, AFTER)
        )
        question = QUESTION.format(instruction=head.instruction, query=query)
        limit = self._manifest.max_tokens
        middle = self._tokenizer(
            f"{question} {document}",
            add_special_tokens=False,
            truncation=limit is not None,
            max_length=None if limit is None else limit - len(before) - len(after),
        )
        ids = [*before, *middle["input_ids"], *after]
        logits = self._model(torch.tensor([ids])).logits[0, -1]
        return float(logits[head.yes] - logits[head.no])


def _go_offline() -> None:
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"


def _unreadable(name: str, error: Exception) -> NotComparable:
    log.warning("%s cannot read the model", name, exc_info=error)
    return NotComparable(f"{name} cannot read the model ({type(error).__name__})")


def _failed(name: str, error: Exception) -> NotComparable:
    log.warning("%s fails on what we compare", name, exc_info=error)
    return NotComparable(f"{name} fails on the texts to compare ({type(error).__name__})")
