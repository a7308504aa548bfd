"""Measures in idle time which token budget suits the model on this device, once for both.

Invariants: it begins when nothing was asked for a while, and nothing that comes waits for more than
the pass that runs; what cannot be measured here and now leaves the budget as it was.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import msgspec

from mlx_serve_common.errors import ServeError
from mlx_serve_common.fingerprint import index_fingerprint
from mlx_serve_common.launch import LaunchSpec
from mlx_serve_common.measured_budgets import MeasuredBudget, note_budget, read_budget
from mlx_serve_common.models import Manifest, ModelKind, read_manifest
from mlx_serve_common.wire import BatchBudget, Embed, Rerank
from mlx_serve_worker.backend import Backend, Prepared
from mlx_serve_worker.failure_log import log_failure
from mlx_serve_worker.lease import Lease
from mlx_serve_worker.sweep import Pass, Sweep

log = logging.getLogger(__name__)

IDLE_S = 3.0
"""Before it begins, or goes on."""
_ATTEMPTS = 3
_FILLED = 0.75
"""Of its budget, for a pass to tell anything about it."""

Clock = Callable[[], float]
Tell = Callable[[BatchBudget], None]


class Calibration:
    """Of one model that nobody has measured on this device yet."""

    def __init__(
        self,
        backend: Backend,
        kind: ModelKind,
        *,
        max_items: int,
        conclude: Callable[[int], None],
        clock: Clock = perf_counter,
    ) -> None:
        self._backend = backend
        self._kind = kind
        self._max_items = max_items
        self._conclude = conclude
        self._clock = clock
        self._passes: dict[int, list[Prepared]] | None = None
        self._sweep: Sweep | None = None
        self._attempts = _ATTEMPTS

    @property
    def is_due(self) -> bool:
        return self._attempts > 0

    def measure(self, lease: Lease, is_wanted: Callable[[], bool]) -> int | None:
        """Go on until ``is_wanted`` says that the thread is; the budget, once it is found."""
        try:
            return self._measure(lease, is_wanted)
        except Exception:
            log_failure("the token budget could not be measured")
            self._attempts = 0
            return None

    def _measure(self, lease: Lease, is_wanted: Callable[[], bool]) -> int | None:
        if self._passes is None:
            self._passes = self._prepared()
        if len(self._passes) < 2:
            self._attempts = 0
            return None
        sweep = self._sweep = self._sweep or Sweep([*self._passes])
        while (budget := sweep.next()) is not None:
            # As a bulk load of another model would: whoever is in a hurry goes first.
            if is_wanted() or not lease.take(lease.ask(), give_way=is_wanted):
                return None
            try:
                sweep.add(budget, self._timed(self._passes[budget]))
            finally:
                lease.give_back()
        self._sweep = None
        if not sweep.is_steady:
            self._attempts -= 1
            log.info("the token budget is not measured now: the machine is busy")
            return None
        self._attempts = 0
        found = sweep.chosen()
        self._conclude(found)
        return found

    def _timed(self, inputs: list[Prepared]) -> Pass:
        started = self._clock()
        self._backend.forward(inputs)
        return Pass(sum(each.length for each in inputs), self._clock() - started)

    def _prepared(self) -> dict[int, list[Prepared]]:
        """The inputs of a pass for each budget: all of a length that lets the largest be filled."""
        budgets = self._backend.batch_choices
        one = self._input(max(budgets) // self._max_items)
        counts = {each: max(1, min(self._max_items, each // one.length)) for each in budgets}
        return {
            budget: [one] * count
            for budget, count in counts.items()
            if count * one.length >= _FILLED * budget
        }

    def _input(self, tokens: int) -> Prepared:
        """Of about so many tokens: a word may be several, and some are put around a text."""
        words = max(1, tokens)
        shorter = max(1, words * words // self._of_words(words).length)
        return self._of_words(shorter)

    def _of_words(self, count: int) -> Prepared:
        text = " ".join(["index"] * count)
        part: Embed | Rerank = Embed([0], [text], "base64", "right")
        if self._kind is ModelKind.RERANKER:
            part = Rerank([0], "index", [text], None, "right")
        (prepared,) = self._backend.prepare(part)
        if isinstance(prepared, ServeError):
            raise prepared
        return prepared


class Budget(NamedTuple):
    tokens: int
    calibration: Calibration | None
    """Where it is not known yet what suits."""


def budget_for(
    spec: LaunchSpec, backend: Backend, tell: Tell, clock: Clock = perf_counter
) -> Budget:
    """What the person has set, else what was measured, else the device's own."""
    if spec.max_batch_tokens is not None:
        tell(BatchBudget(spec.max_batch_tokens, "configured"))
        return Budget(spec.max_batch_tokens, None)
    if not spec.calibrate or len(backend.batch_choices) < 2:
        tell(BatchBudget(backend.batch_tokens, "default"))
        return Budget(backend.batch_tokens, None)
    path = Path(spec.model_path)
    manifest = read_manifest(path)
    circumstances = _circumstances(manifest, backend, spec.max_batch_items)
    known = read_budget(path.parent, path.name, circumstances)
    if known is not None and known in backend.batch_choices:
        tell(BatchBudget(known, "measured"))
        return Budget(known, None)
    tell(BatchBudget(backend.batch_tokens, "default"))

    def conclude(tokens: int) -> None:
        tell(BatchBudget(tokens, "measured"))
        log.info("passes of %d tokens suit this model here", tokens)
        noted = MeasuredBudget(model=path.name, circumstances=circumstances, tokens=tokens)
        try:
            note_budget(path.parent, noted)
        except OSError as error:
            log.warning("the token budget is measured again next time: %s", error.strerror)

    return Budget(
        backend.batch_tokens,
        Calibration(
            backend,
            manifest.kind,
            max_items=spec.max_batch_items,
            conclude=conclude,
            clock=clock,
        ),
    )


def _circumstances(manifest: Manifest, backend: Backend, max_items: int) -> str:
    facts = (
        index_fingerprint(manifest),
        backend.device_identity,
        backend.batch_choices,
        max_items,
    )
    return msgspec.json.encode(facts).decode()
