"""Hostile and broken weight files are refused before MLX opens them."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Loading
from mlx_serve_worker import load_progress, weights
from mlx_serve_worker.models import bert
from tests.engine import safetensors_file, tiny
from tests.engine.models import load, manifested

pytestmark = pytest.mark.engine

_16_BYTES = b"\0" * 16


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


BROKEN: dict[str, Any] = {
    "overlapping": {"a": entry([4], 0, 16), "b": entry([2], 0, 8)},
    "gap": {"a": entry([1], 0, 4), "b": entry([2], 8, 16)},
    "starts late": {"a": entry([3], 4, 16)},
    "beyond the end": {"a": entry([8], 0, 32)},
    "bytes left over": {"a": entry([2], 0, 8)},
    "shape larger than its bytes": {"a": entry([5], 0, 16)},
    "overflowing shape": {"a": entry([2**31, 2**31, 16], 0, 0), "b": entry([4], 0, 16)},
    "overflowing side of no bytes": {"a": entry([2**31, 0], 0, 0), "b": entry([4], 0, 16)},
    "overflowing product": {"a": entry([2**31 - 1] * 4, 0, 16)},
    "endless shape": {"a": entry([1] * 9 + [4], 0, 16)},
    "negative side": {"a": entry([-4], 0, 16)},
    "negative offset": {"a": entry([4], -16, 0)},
    "reversed offsets": {"a": entry([4], 16, 0)},
    "unknown type": {"a": entry([4], 0, 16, "F4")},
    "fractional side": {"a": entry([4], 0, 16) | {"shape": [4.5]}},
    "no offsets": {"a": {"dtype": "F32", "shape": [4]}},
    "list": [],
    "no JSON": b"{'a': 1}",
    "deep": b'{"a":' + b"[" * 100_000,
    "invalid text": b'{"\xff": 1}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_header_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors_file.write_raw(path, BROKEN[name], _16_BYTES)
    with pytest.raises(ServeError, match=r"model\.safetensors") as refused:
        weights.read_header(path)
    assert refused.value.code is ErrorCode.INVALID_MODEL
    assert str(tmp_path) not in refused.value.message


def test_good_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = {"__metadata__": {"x": "y"}, "b": entry([], 12, 16), "a": entry([3], 0, 12)}
    safetensors_file.write_raw(path, header, _16_BYTES)
    assert {tensor.name: tensor.shape for tensor in weights.read_header(path)} == {
        "a": (3,),
        "b": (),
    }


@pytest.mark.parametrize("length", [2**63, 10**6, 33 * 1024**2])
def test_wrong_header_length_is_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors_file.write_raw(path, {"a": entry([4], 0, 16)}, _16_BYTES, header_bytes=length)
    with pytest.raises(ServeError):
        weights.read_header(path)


def test_huge_header_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((40 * 1024**2).to_bytes(8, "little"))
        file.truncate(50 * 1024**2)
    with pytest.raises(ServeError, match="header of more than"):
        weights.read_header(path)


@pytest.mark.parametrize("size", [0, 7, 8])
def test_stump_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x10" * size)
    with pytest.raises(ServeError, match="cut short"):
        weights.read_header(path)


def test_only_plain_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(ServeError, match="not a regular file"):
            weights.read_header(tmp_path / name)
    with pytest.raises(ServeError, match="cannot be read"):
        weights.read_header(tmp_path / "missing")


def test_too_many_tensors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_MAX_TENSORS", 1)
    path = tmp_path / "model.safetensors"
    safetensors_file.write(path, {"a": np.zeros(1), "b": np.zeros(1)})
    with pytest.raises(ServeError, match="2 tensors"):
        weights.read_header(path)


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", ".x.safetensors", "x.bin"])
def test_index_names_only_plain_weight_files(name: str, tmp_path: Path) -> None:
    (tmp_path / weights.INDEX_FILE).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ServeError, match="names a file"):
        weights.weight_files(tmp_path)


def test_damaged_index_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"weight_map": {"a": 1}}'):
        (tmp_path / weights.INDEX_FILE).write_text(text)
        with pytest.raises(ServeError, match="is damaged"):
            weights.weight_files(tmp_path)


def changed_weights(folder: Path, change: dict[str, Any], dtype: str = "F32") -> None:
    """Write the plain model with some tensors replaced, or left out where None."""
    tiny.build(tiny.LAYOUTS["mean"], folder)
    manifested(folder)
    config = json.loads((folder / "config.json").read_text())
    tensors = dict(tiny._encoder_tensors(config, pooler=True)) | change
    kept = {name: values for name, values in tensors.items() if values is not None}
    safetensors_file.write(folder / "model.safetensors", kept, dtype)


QUERY = "encoder.layer.0.attention.self.query.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({QUERY: None}, "lack 1 of"),
        ({QUERY: np.zeros((8, 8))}, r"shape \[8, 8\]"),
        ({QUERY: np.zeros((32, 32), dtype=int)}, "stored as I64"),
        ({"bert." + QUERY: np.zeros((32, 32))}, "twice"),
    ],
)
def test_unfit_parameters_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    changed_weights(tmp_path, change)
    with pytest.raises(ServeError, match=message):
        load(tmp_path)


def test_unused_tensors_do_no_harm(tmp_path: Path) -> None:
    changed_weights(tmp_path, {"vision.proj": np.zeros(3), "classifier.weight": np.zeros((2, 32))})
    assert manifested(tmp_path).decided["unused_weights"] == "vision.proj"
    load(tmp_path)


def test_how_much_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_PORTION_BYTES", 1)
    manifested(tiny.build(tiny.LAYOUTS["mean"], tmp_path))
    told: list[Loading] = []
    with load_progress.listening(told.append, itertools.count().__next__):
        load(tmp_path)
    shares = [each.done for each in told if each.stage == "weights"]
    assert shares[0] == 0 and shares[-1] == 1
    assert len(shares) > 10
    assert shares == sorted(shares, key=lambda share: share or 0)


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_size": 0},
        {"hidden_size": 10**9},
        {"num_attention_heads": 5},
        {"vocab_size": -1},
        {"num_hidden_layers": "2"},
        {"layer_norm_eps": None},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"hidden_act": "xielu"},
    ],
)
def test_config_that_makes_no_sense_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ServeError) as refused:
        bert.build(config)
    assert refused.value.code is ErrorCode.INVALID_MODEL
