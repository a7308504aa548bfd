"""The reranker backend: what it refuses to load, and what it does with a bad document."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Classifier, FileRecord, ModelKind, YesOrNo
from mlx_serve_common.store import Store
from mlx_serve_common.wire import Detokenize, Tokenize
from mlx_serve_worker.backend import Backend, Score
from mlx_serve_worker.backend_choice import make_backend
from mlx_serve_worker.backends.reranker import RerankerBackend
from mlx_serve_worker.inspection import Origin
from mlx_serve_worker.installation import install
from tests.engine import safetensors_file, tiny_judges, tiny_rerankers
from tests.engine.reranker_tensors import tensors
from tests.engine.rerankers import cross_encoder, judge, load, manifested, prepare, raw
from tests.engine.texts import TEXTS
from tests.engine.tiny_rerankers import QUERIES

pytestmark = pytest.mark.engine


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    folder = tiny_rerankers.build(tiny_rerankers.LAYOUTS["bert"], tmp_path)
    manifested(folder)
    return folder


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    folder = tiny_judges.build(tiny_judges.LAYOUTS["untied"], tmp_path)
    manifested(folder)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(ServeError) as refused:
        load(folder)
    assert refused.value.code is ErrorCode.INVALID_MODEL
    assert str(folder) not in refused.value.message
    return refused.value.message


def test_document_whose_score_is_not_finite_fails_alone(bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text())
    values = tensors(config)
    vocabulary = json.loads((bert / "tokenizer.json").read_text())["model"]["vocab"]
    values["bert.embeddings.word_embeddings.weight"][vocabulary["x"]] = np.inf
    safetensors_file.write(bert / "model.safetensors", values)
    backend = load(bert)
    inputs = prepare(backend, "a", ["b c", "x", "d"])
    first, second, third = backend.forward(inputs)
    assert second is None
    for output, item in ((first, inputs[0]), (third, inputs[2])):
        assert isinstance(output, Score)
        assert output.raw == pytest.approx(raw(backend, [item])[0], abs=1e-6)


def test_order_survives_where_scores_are_next_to_certain(bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text())
    values = tensors(config)
    values["classifier.bias"][:] = 25.0
    safetensors_file.write(bert / "model.safetensors", values)
    backend = load(bert)
    scores = backend.forward(prepare(backend, QUERIES["plain"], [*TEXTS.values()]))
    found = [score for score in scores if isinstance(score, Score)]
    by_score = sorted(found, key=lambda score: score.score)
    assert by_score == sorted(found, key=lambda score: score.raw)
    assert len({score.score for score in found}) == len({score.raw for score in found})


def test_what_it_says_of_itself(bert: Path) -> None:
    backend: Backend = make_backend(bert)
    backend.load()
    assert isinstance(backend, RerankerBackend)
    assert backend.device in ("cpu", "metal", "cuda")
    assert backend.batch_tokens >= 512
    assert (bert / "model.safetensors").stat().st_size // 2 < backend.memory_bytes()
    (tokens,) = backend.tokenize(Tokenize([0], ["hello"], special=True, pieces=False))
    assert not isinstance(tokens, ServeError)
    (text,) = backend.detokenize(Detokenize([0], [tokens.ids]))
    assert "hello" in str(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": None}, "no head"),
        ({"head": Classifier(2)}, "shape"),
        ({"max_tokens": 61}, "positions"),
        ({"max_tokens": None}, "positions"),
        ({"max_tokens": 2}, "no room"),
        ({"architecture": "qwen2"}, "rerankers of type 'qwen2'"),
        ({"files": {"config.json": FileRecord(1, "")}}, "config.json was changed"),
    ],
)
def test_manifest_that_does_not_fit_is_refused(
    changes: dict[str, Any], message: str, bert: Path
) -> None:
    manifested(bert, **changes)
    assert message in refusal(bert)


@pytest.mark.parametrize("answers", [(3, 10**6), (-1, 4)])
def test_answers_that_are_no_tokens_are_refused(answers: tuple[int, int], qwen: Path) -> None:
    manifested(qwen, head=YesOrNo(*answers, instruction=""))
    assert "no tokens" in refusal(qwen)


def test_judge_keeps_no_more_of_its_head_than_two_rows(tmp_path: Path) -> None:
    tied = judge("tied", tmp_path / "tied")._scorer
    untied = judge("untied", tmp_path / "untied")._scorer
    for scorer in (tied, untied):
        model = scorer.model
        assert "lm_head" not in model
        assert model._answers.shape == (2, 32)


@pytest.mark.parametrize("kind", ["bert", "qwen"])
def test_installing_tries_a_reranker_out(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(kind)
    store = Store(tmp_path / "models")
    origin = Origin("mine", ModelKind.RERANKER)
    manifest = install(tmp_path, store, origin, "refuse", lambda _: None)
    assert manifest.kind is ModelKind.RERANKER
    assert manifest.files["model.safetensors"].size > 0
    backend = make_backend(tmp_path / "models/mine")
    backend.load()


def test_weights_that_give_no_number_are_not_installed(bert: Path, tmp_path: Path) -> None:
    config = json.loads((bert / "config.json").read_text())
    values = tensors(config)
    values["classifier.weight"][:] = np.nan
    safetensors_file.write(bert / "model.safetensors", values)
    with pytest.raises(ServeError, match="not finite"):
        install(bert, Store(tmp_path / "models"), Origin("mine"), "refuse", lambda _: None)


_IMPORTS = """
import sys
from pathlib import Path
from mlx_serve_common.wire import Rerank
from mlx_serve_worker.backend_choice import make_backend
backend = make_backend(Path(sys.argv[1]))
backend.load()
assert backend.forward(backend.prepare(Rerank([0, 1], "a", ["b", "c"], None, "right")))
heavy = {"transformers", "mlx_embeddings", "huggingface_hub", "torch", "numpy"}
print(sorted(heavy & sys.modules.keys()), "mlx_lm.models" in sys.modules)
"""


@pytest.mark.parametrize(("kind", "uses_mlx_lm"), [("bert", False), ("qwen", True)])
def test_worker_imports_nothing_heavy(
    kind: str, uses_mlx_lm: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(kind)
    run = subprocess.run(
        [sys.executable, "-c", _IMPORTS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert run.stdout == f"[] {uses_mlx_lm}\n"


def test_nothing_is_changed_by_the_order_of_loading(tmp_path: Path) -> None:
    one = cross_encoder("bert", tmp_path / "one")
    inputs = prepare(one, "a", ["b", "c d"])
    expected = raw(one, inputs)
    judge("tied", tmp_path / "other")
    np.testing.assert_array_equal(raw(one, inputs), expected)
