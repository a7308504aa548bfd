"""Is what a chat model would say right on this machine? Its part of ``verification``.

Invariants: computes with the same code as a worker; nothing is sampled, so that two verifications
of the same files find the same.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import Manifest, Verified
from mlx_serve_worker import device
from mlx_serve_worker.chat.loading import refuse_unbatched
from mlx_serve_worker.chat.template import ChatTemplate
from mlx_serve_worker.chat_model import load_for_trial
from mlx_serve_worker.models.language_model import LanguageModel
from mlx_serve_worker.models.padding import padded
from mlx_serve_worker.tokenizer_file import load_tokenizer
from mlx_serve_worker.verification import BATCH_TOLERANCE

_READ = 64
"""Tokens of a text at most: their logits, of whole vocabularies, have to fit the memory."""
_SAID = 8
"""Tokens of an answer."""
_QUESTION = "Is it raining?"


def verify_chat(folder: Path, custom_models: Path | None, texts: Sequence[str]) -> Verified:
    model, manifest = load_for_trial(folder, custom_models)
    refuse_unbatched(model.new_cache())
    measured = _measure(model, _inputs(folder, manifest, texts))
    allowed = BATCH_TOLERANCE * measured.largest
    problems: list[str] = []
    if not measured.is_finite:
        problems.append("its logits are not finite")
    if measured.batch_diff > allowed:
        problems.append("a text has another successor in a batch than alone")
    if measured.step_diff > allowed:
        problems.append("a text has another successor when it is read token by token")
    template_ok = _renders(manifest)
    if template_ok is False:
        problems.append("its chat template cannot put a conversation into words")
    code = "your own code" if manifest.implementation == "custom" else "mlx-lm"
    return Verified(
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        device=device.current().name,
        passed=not problems,
        problems=problems,
        finite=measured.is_finite,
        batch_max_diff=measured.batch_diff,
        step_max_diff=measured.step_diff,
        template_ok=template_ok,
        not_checked=[f"parity: the layers are computed by {code}, there is no second opinion"],
    )


def _renders(manifest: Manifest) -> bool | None:
    """None for a model without a template."""
    facts = manifest.chat
    if facts is None or facts.template is None:
        return None
    asked = [{"role": "user", "content": _QUESTION}]
    try:
        template = ChatTemplate(facts.template, facts.tokens)
        return _QUESTION in template.render(asked, add_generation_prompt=True)
    except ServeError:
        return False


class _Measured(NamedTuple):
    is_finite: bool
    batch_diff: float
    step_diff: float
    largest: float


def _measure(model: LanguageModel, inputs: Sequence[list[int]]) -> _Measured:
    alone = mx.stack(
        [_wide(model.logits(mx.array([ids]), model.new_cache())[0, -1]) for ids in inputs]
    )
    batched = _batched(model, inputs)
    steps, at_once = zip(*(_answer(model, ids) for ids in inputs), strict=True)
    one_by_one, whole = mx.concatenate(list(steps)), mx.concatenate(list(at_once))
    seen = mx.concatenate([alone, batched, one_by_one, whole])
    return _Measured(
        is_finite=bool(mx.isfinite(seen).all().item()),
        batch_diff=_largest(alone - batched),
        step_diff=_largest(one_by_one - whole),
        largest=_largest(seen),
    )


def _inputs(folder: Path, manifest: Manifest, texts: Sequence[str]) -> list[list[int]]:
    assert manifest.chat is not None, "a chat model's manifest has its facts"
    tokenizer = load_tokenizer(folder, manifest)
    most = min(_READ, (manifest.max_tokens or _READ) - _SAID)
    read = [tokenizer.encode(text).ids[:most] for text in texts]
    known = [[id for id in ids if id < manifest.chat.vocabulary] for ids in read]
    return [ids for ids in known if ids]


def _batched(model: LanguageModel, inputs: Sequence[list[int]]) -> mx.array:
    """Padded on the right, where a causal model never looks."""
    logits = model.logits(padded(inputs), model.new_cache())
    return mx.stack([_wide(logits[row, len(ids) - 1]) for row, ids in enumerate(inputs)])


def _answer(model: LanguageModel, ids: list[int]) -> tuple[mx.array, mx.array]:
    """The logits that lead to each token of an answer: of many steps, and of one reading."""
    cache = model.new_cache()
    logits = model.logits(mx.array([ids]), cache)[0, -1]
    said: list[int] = []
    steps = []
    for _ in range(_SAID):
        steps.append(_wide(logits))
        token: Any = mx.argmax(logits).item()
        said.append(int(token))
        logits = model.logits(mx.array([said[-1:]]), cache)[0, -1]
    whole = model.logits(mx.array([ids + said]), model.new_cache())
    return mx.stack(steps), _wide(whole[0, len(ids) - 1 : -1])


def _wide(logits: mx.array) -> mx.array:
    return logits.astype(mx.float32)


def _largest(values: mx.array) -> float:
    largest: Any = mx.abs(values).max().item()
    return float(largest)
