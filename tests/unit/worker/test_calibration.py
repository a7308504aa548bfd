"""Measuring in idle time, with a clock that only passes move."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlx_serve_common.errors import ServeError
from mlx_serve_common.launch import LaunchSpec
from mlx_serve_common.models import Manifest, ModelKind, encode_manifest
from mlx_serve_common.wire import BatchBudget, Embed, EmbedTokens, Rerank
from mlx_serve_worker import compute
from mlx_serve_worker.backend import Output, Prepared
from mlx_serve_worker.calibration import Budget, Calibration, budget_for
from mlx_serve_worker.compute import Compute
from mlx_serve_worker.lease import Lease
from mlx_serve_worker.preparation import Inputs, Item
from mlx_serve_worker.urgent_first import UrgentFirst
from tests.store import ModelStore
from tests.unit.worker.test_compute import ScriptedBackend

CHOICES = (128, 256, 512)
FIXED_S = 0.1
"""What a pass takes besides a millisecond for each token."""


class Timed(ScriptedBackend):
    batch_tokens = 256
    batch_choices: Sequence[int] = CHOICES

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.sizes: list[int] = []
        self.disturbed: Callable[[], float] = lambda: 0.0

    def prepare(self, part: Embed | EmbedTokens | Rerank) -> list[Prepared | ServeError]:
        assert isinstance(part, Embed | Rerank)
        texts = part.texts if isinstance(part, Embed) else part.documents
        return [Prepared(text, len(text.split()) + 2, False) for text in texts]

    def forward(self, inputs: Sequence[Prepared]) -> list[Output | None]:
        tokens = sum(each.length for each in inputs)
        self.sizes.append(tokens)
        self.now += FIXED_S + tokens / 1000 + self.disturbed()
        return [b"" for _ in inputs]


def calibration(backend: Timed, concluded: list[int], kind: str = "embedding") -> Calibration:
    return Calibration(
        backend,
        ModelKind(kind),
        max_items=32,
        conclude=concluded.append,
        clock=lambda: backend.now,
    )


def never() -> bool:
    return False


@pytest.mark.parametrize("kind", ["embedding", "reranker"])
def test_it_concludes_once(kind: str) -> None:
    concluded: list[int] = []
    backend = Timed()
    measuring = calibration(backend, concluded, kind)

    assert measuring.is_due
    assert measuring.measure(Lease.alone(), never) == 512
    assert concluded == [512]
    assert not measuring.is_due
    assert [size // 100 for size in backend.sizes] == [1, 2, 5] * 3


def test_it_gives_way_at_once_and_goes_on_where_it_was() -> None:
    concluded: list[int] = []
    backend = Timed()
    measuring = calibration(backend, concluded)

    assert measuring.measure(Lease.alone(), lambda: len(backend.sizes) == 2) is None
    assert len(backend.sizes) == 2
    assert measuring.is_due and not concluded
    assert measuring.measure(Lease.alone(), never) == 512
    assert len(backend.sizes) == 9


def test_on_a_busy_machine_it_gives_up_after_a_few_times() -> None:
    concluded: list[int] = []
    backend = Timed()
    backend.disturbed = lambda: 1.2 ** len(backend.sizes)
    measuring = calibration(backend, concluded)

    for _ in range(3):
        assert measuring.is_due
        assert measuring.measure(Lease.alone(), never) is None
    assert not measuring.is_due
    assert concluded == []


def test_a_model_that_cannot_compute_it_keeps_its_budget() -> None:
    class Failing(Timed):
        def forward(self, inputs: Sequence[Prepared]) -> list[Output | None]:
            raise RuntimeError("no memory")

    concluded: list[int] = []
    measuring = calibration(Failing(), concluded)
    assert measuring.measure(Lease.alone(), never) is None
    assert not measuring.is_due and not concluded


def test_a_worker_measures_while_it_is_idle_and_cuts_by_what_it_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compute, "IDLE_S", 0.0)
    backend, ready = Timed(), UrgentFirst[Inputs]()

    def conclude(tokens: int) -> None:
        assert tokens == 512
        backend.sizes.clear()
        prepared = Prepared("word " * 62, 64, False)
        ready.put(Inputs([Item(id, prepared) for id in range(8)], urgent=False))
        ready.close()

    measuring = Calibration(
        backend,
        ModelKind.EMBEDDING,
        max_items=32,
        conclude=conclude,
        clock=lambda: backend.now,
    )
    Compute(
        backend,
        max_items=32,
        max_tokens=128,
        emit=lambda result: None,
        is_cancelled=lambda id: False,
        calibration=measuring,
    ).run(ready)
    assert backend.sizes == [512]


# --- what a worker begins with -------------------------------------------------------------------


@pytest.fixture
def told() -> list[BatchBudget]:
    return []


def begun(given: LaunchSpec, backend: Timed, told: list[BatchBudget]) -> Budget:
    return budget_for(given, backend, told.append, lambda: backend.now)


def spec(store: ModelStore, **given: Any) -> LaunchSpec:
    folder = store.models_dir / "tiny"
    if not folder.exists():
        store.add("tiny")
    return LaunchSpec(
        model_path=str(folder), socket="", max_batch_items=32, **{"calibrate": True, **given}
    )


def test_what_was_measured_is_known_to_the_next_worker(
    store: ModelStore, told: list[BatchBudget]
) -> None:
    first = begun(spec(store), Timed(), told)
    assert first.tokens == 256 and first.calibration is not None
    assert first.calibration.measure(Lease.alone(), never) is not None
    found = told[-1]
    assert [each.source for each in told] == ["default", "measured"]

    second = begun(spec(store), Timed(), told)
    assert (second.tokens, second.calibration) == (found.tokens, None)
    assert told[-1] == found


def test_another_device_or_another_model_of_that_name_is_measured_anew(
    store: ModelStore, told: list[BatchBudget], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = begun(spec(store), Timed(), told).calibration
    assert measured is not None and measured.measure(Lease.alone(), never)

    monkeypatch.setattr(Timed, "device_identity", "another")
    assert begun(spec(store), Timed(), told).calibration is not None
    monkeypatch.undo()

    changed = Manifest(
        name="tiny",
        kind=ModelKind.EMBEDDING,
        architecture="x",
        revision="2",
        created_at="2026-01-01",
    )
    (store.models_dir / "tiny/manifest.json").write_bytes(encode_manifest(changed))
    assert begun(spec(store), Timed(), told).calibration is not None


def test_what_a_person_has_set_is_not_questioned(
    store: ModelStore, told: list[BatchBudget]
) -> None:
    found = begun(spec(store, max_batch_tokens=100), Timed(), told)
    assert found == (100, None)
    assert told == [BatchBudget(100, "configured")]


@pytest.mark.parametrize("choices", [(), (512,), CHOICES])
def test_nothing_is_measured_where_it_is_off_or_makes_no_odds(
    store: ModelStore, told: list[BatchBudget], choices: tuple[int, ...]
) -> None:
    backend = Timed()
    backend.batch_choices = choices
    found = begun(spec(store, calibrate=choices != CHOICES), backend, told)
    assert found == (256, None)
    assert told == [BatchBudget(256, "default")]


def test_a_store_that_cannot_be_written_is_no_harm(
    store: ModelStore, told: list[BatchBudget]
) -> None:
    wanted = spec(store)
    (store.models_dir / ".budgets").write_text("in the way")
    measuring = begun(wanted, Timed(), told).calibration
    assert measuring is not None
    assert measuring.measure(Lease.alone(), never) is not None
    assert told[-1].source == "measured"
    assert Path(wanted.model_path).exists()
