"""The encoder backend: what it refuses to load, and what it does with a bad row."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import MANIFEST_FILE, FileRecord
from mlx_serve_worker.backends.encoder import EncoderBackend
from tests.engine import safetensors_file, tiny
from tests.engine.models import embed, from_base64, load, load_layout, manifested, prepare
from tests.engine.texts import TEXTS

pytestmark = pytest.mark.engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    manifested(tiny.build(tiny.LAYOUTS["mean"], tmp_path))
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(ServeError) as refused:
        load(folder)
    assert refused.value.code is ErrorCode.INVALID_MODEL
    assert str(folder) not in refused.value.message
    return refused.value.message


def test_row_that_is_not_finite_fails_alone(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    tensors = dict(tiny._encoder_tensors(config, pooler=False))
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    tensors["embeddings.word_embeddings.weight"][vocabulary["x"]] = np.inf
    safetensors_file.write(folder / "model.safetensors", tensors)
    backend = load(folder)
    before, bad, after = prepare(backend, ["a b c", "x", "d"])
    first, second, third = backend.forward([before, bad, after])
    assert second is None
    for rendered, item in ((first, before), (third, after)):
        assert isinstance(rendered, bytes)
        vector = from_base64(json.loads(rendered))
        np.testing.assert_allclose(vector, embed(backend, [item])[0], atol=1e-6)


def test_text_does_not_depend_on_its_neighbours(folder: Path) -> None:
    backend = load(folder)
    inputs = prepare(backend, [*TEXTS.values()] * 10)
    together = embed(backend, inputs)
    order = np.random.RandomState(3).permutation(len(inputs))
    shuffled = embed(backend, [inputs[position] for position in order])
    np.testing.assert_allclose(shuffled, together[order], rtol=0, atol=1e-6)


def test_what_it_says_of_itself(folder: Path) -> None:
    backend = load(folder)
    assert backend.device in ("cpu", "metal", "cuda")
    assert backend.batch_tokens >= 512
    assert (folder / "model.safetensors").stat().st_size // 2 < backend.memory_bytes()


def test_cache_of_freed_buffers_is_bounded(folder: Path) -> None:
    backend = load(folder)
    embed(backend, prepare(backend, TEXTS.values()))
    # The limit that was set before is what a new one returns.
    assert mx.set_cache_limit(2**28) <= 2**28


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": tiny.POSITIONS + 1}, "positions"),
        ({"max_tokens": None}, "positions"),
        ({"max_tokens": 0}, "positions"),
        ({"max_tokens": 2}, "no room"),
        ({"dimensions": 64}, "64 dimensions"),
        ({"architecture": "os"}, "cannot be served"),
        ({"pipeline": []}, "first step"),
        ({"files": {"vocab.txt": FileRecord(1, "")}}, "vocab.txt is missing"),
        ({"files": {"config.json": FileRecord(1, "")}}, "config.json was changed"),
    ],
)
def test_manifest_that_does_not_fit_is_refused(
    changes: dict[str, Any], message: str, folder: Path
) -> None:
    manifested(folder, **changes)
    assert message in refusal(folder)


def test_files_that_do_not_fit_are_refused(folder: Path) -> None:
    config = folder / "config.json"
    good = config.read_bytes()
    config.write_bytes(good.replace(b'"hidden_size": 32', b'"hidden_size": 64'))
    assert "shape" in refusal(folder)
    config.write_bytes(b"[]")
    assert "config.json cannot be read" in refusal(folder)
    config.write_bytes(good)
    (folder / "tokenizer.json").rename(folder / "other.json")
    (folder / "tokenizer.json").symlink_to("other.json")
    assert "link" in refusal(folder)
    (folder / MANIFEST_FILE).write_text("{")
    assert "damaged" in refusal(folder)


def test_dense_layer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    manifested(tiny.build(tiny.LAYOUTS["dense-tanh"], tmp_path))
    weights = tmp_path / "2_Dense/model.safetensors"
    safetensors_file.write(weights, {"linear.weight": np.zeros((24, 31))})
    assert "2_Dense does not take" in refusal(tmp_path)
    weights.unlink()
    assert "2_Dense does not take" in refusal(tmp_path)


def test_cut_texts_are_reported(tmp_path: Path) -> None:
    backend = load_layout("mean", tmp_path)
    whole, cut = prepare(backend, ["a", TEXTS["long"]])
    assert (whole.truncated, cut.truncated) == (False, True)
    assert cut.length == 40


_IMPORTS = """
import sys
from pathlib import Path
from mlx_serve_common.wire import Embed
from mlx_serve_worker.backends.encoder import EncoderBackend
backend = EncoderBackend(Path(sys.argv[1]))
backend.load()
part = Embed([1, 2], ["a", "b c"], "base64", "right")
assert None not in backend.forward(backend.prepare(part))
heavy = {"transformers", "mlx_lm", "mlx_embeddings", "huggingface_hub", "torch", "numpy"}
print(sorted(heavy & sys.modules.keys()))
"""


def test_worker_imports_nothing_heavy(folder: Path) -> None:
    root = str(Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", _IMPORTS, str(folder)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert run.stdout == "[]\n"


def test_protocol_is_kept(folder: Path) -> None:
    from mlx_serve_worker.backend import Backend

    backend: Backend = EncoderBackend(folder)
    assert backend.batch_tokens
