"""How much converting has changed what a chat model would say next, in figures.

Invariants: both models read the same tokens; of each text it is asked what follows on its first
half and on the whole.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Quality
from mlx_serve_worker.chat_model import load_for_trial
from mlx_serve_worker.quality import Answers, OnProgress, rounded
from mlx_serve_worker.quality_texts import TEXTS
from mlx_serve_worker.tokenizer_file import load_tokenizer


def answers(folder: Path, custom_models: Path | None, on_progress: OnProgress) -> Answers:
    """The log-probabilities of every token, for each place that is asked about (rows)."""
    model, manifest = load_for_trial(folder, custom_models)
    tokenizer = load_tokenizer(folder, manifest)
    rows: list[Any] = []
    for done, text in enumerate(TEXTS):
        on_progress(done, len(TEXTS))
        ids = tokenizer.encode(text).ids
        logits = model.logits(mx.array([ids]), model.new_cache())[0, [len(ids) // 2, len(ids) - 1]]
        rows.append(np.array(_log_probabilities(logits)))
    found: Answers = np.concatenate(rows)
    if not np.isfinite(found).all():
        raise ServeError(ErrorCode.INVALID_MODEL, "the model's answers are not finite")
    return found


def compare(original: Answers, converted: Answers) -> Quality:
    same = original.argmax(axis=1) == converted.argmax(axis=1)
    divergences = (np.exp(original) * (original - converted)).sum(axis=1, dtype=np.float64)
    return Quality(
        texts=len(TEXTS),
        same_token=rounded(same.mean()),
        mean_divergence=rounded(divergences.mean()),
    )


def _log_probabilities(logits: mx.array) -> mx.array:
    wide = logits.astype(mx.float32)
    return wide - mx.logsumexp(wide, axis=-1, keepdims=True)
