"""Are a model's answers right on this machine? Briefly at install time, in full on request.

Invariants: computes with the same code as a worker; what fails is told in ``problems``, what was
left out in ``not_checked``, and ``passed`` means that there is no problem.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest, ModelKind, Verified, read_manifest
from mlx_serve_worker import parity
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.backend_choice import make_backend
from mlx_serve_worker.probe import Probe, Row

_BRIEF_TEXTS = (
    "A short text.",
    "A longer text, so that the short one has to be padded: 1, 2, 3, 한국어, ünïcödé. " * 3,
)
_TEXTS = (
    *_BRIEF_TEXTS,
    "",
    "Hello world",
    "The QUICK brown fox jumps over the lazy dog, then sleeps: 12.5% of its day!",
    "안녕하세요, 오늘 서울의 날씨는 맑고 따뜻합니다.",
    "漢字とかな混じりの文、测试。",
    "Crème brûlée 🍮 naïve déjà-vu 👩‍👩‍👧 fin",
    "  blanks\tand\n\nnew lines  ",
    "def add(a, b):\n    return a + b",
    "Every good model counts its tokens before it reads them, and says so. " * 20,
)
# Of the largest number. Half precision on a GPU differs by up to a hundredth.
BATCH_TOLERANCE = 0.02


def try_out(folder: Path, custom_models: Path | None = None) -> Verified:
    """The brief form; raises ``invalid_model`` if the model does not pass."""
    verified = verify(folder, custom_models, brief=True)
    if not verified.passed:
        raise ServeError(
            ErrorCode.INVALID_MODEL, f"the model fails its trial run: {verified.problems[0]}"
        )
    return verified


def verify(folder: Path, custom_models: Path | None = None, *, brief: bool = False) -> Verified:
    manifest = read_manifest(folder)
    if manifest.kind is ModelKind.CHAT:
        # Here, because the others need nothing of what it imports.
        from mlx_serve_worker.chat_verification import verify_chat

        return verify_chat(folder, custom_models, _BRIEF_TEXTS if brief else _TEXTS)
    # As it is stored: what is quantized may be more than the code of others can bear, and a worker
    # is not always given the memory to unpack it.
    backend = make_backend(folder, custom_models)
    backend.load()
    probe = Probe(backend, manifest.kind)
    texts = [text for text in (_BRIEF_TEXTS if brief else _TEXTS) if probe.accepts(text)]
    problems: list[str] = []
    not_checked: list[str] = []

    pairs = _twice(probe, probe.prepare(texts))
    if len(pairs) < len(texts):
        problems.append("its output is not finite")
    worst = max((pair.diff for pair in pairs), default=None)
    if worst is not None and worst > BATCH_TOLERANCE * max(pair.largest for pair in pairs):
        problems.append("a text has another result in a batch than alone")
    dimensions = _dimensions(manifest, pairs)
    if dimensions not in (None, manifest.dimensions):
        problems.append(f"it gives {dimensions} dimensions, not {manifest.dimensions}")
    prompts_ok = measured = None
    if brief:
        not_checked.append("prompts and parity: `mlx-serve verify` does")
    else:
        prompts_ok = _prompts_ok(probe, manifest)
        if prompts_ok is False:
            problems.append("a prompt is not put before the text as it should be")
        try:
            measured = parity.measure(probe, manifest, folder, texts)
        except parity.NotComparable as reason:
            not_checked.append(f"parity: {reason}")
        else:
            if parity.is_too_far(measured, manifest.dtype):
                problems.append(f"its answers are not those of {measured.reference}")
    if measured is None and manifest.implementation in ("mlx_embeddings", "custom"):
        code = "your own code" if manifest.implementation == "custom" else "mlx-embeddings"
        not_checked.append(f"the layers are computed by {code}, which we do not answer for")
    return Verified(
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        device=backend.device,
        passed=not problems,
        problems=problems,
        finite=len(pairs) == len(texts),
        batch_max_diff=worst,
        dimensions_ok=None if dimensions is None else dimensions == manifest.dimensions,
        prompts_ok=prompts_ok,
        parity=measured,
        not_checked=not_checked,
    )


class _Pair(NamedTuple):
    """What one input gave, computed twice."""

    alone: Row
    in_batch: Row

    @property
    def largest(self) -> float:
        return float(np.abs(self.alone).max())

    @property
    def diff(self) -> float:
        return float(np.abs(self.alone - self.in_batch).max())


def _twice(probe: Probe, inputs: Sequence[Prepared]) -> list[_Pair]:
    """The inputs whose results are finite, alone and in a batch of all."""
    pairs: list[_Pair] = []
    for item, in_batch in zip(inputs, probe.rows(inputs), strict=True):
        (alone,) = probe.rows([item])
        if alone is not None and in_batch is not None:
            pairs.append(_Pair(alone, in_batch))
    return pairs


def _dimensions(manifest: Manifest, pairs: Sequence[_Pair]) -> int | None:
    if manifest.kind is not ModelKind.EMBEDDING or not pairs:
        return None
    return len(pairs[0].alone)


def _prompts_ok(probe: Probe, manifest: Manifest) -> bool | None:
    """Whether the model reads the prompt and the text as it reads them written in one."""
    if manifest.kind is not ModelKind.EMBEDDING or not manifest.prompts:
        return None
    text = _BRIEF_TEXTS[0]
    asked: list[tuple[str | None, str]] = [(text, text) for text in manifest.prompts.values()]
    asked.append((None, manifest.prompts.get(manifest.default_prompt or "", "")))
    try:
        return all(
            probe.prepare([text], prompt)[0].token_ids
            == probe.prepare([written + text], "")[0].token_ids
            for prompt, written in asked
        )
    except ServeError:  # such as a prompt that fills the model
        return False
