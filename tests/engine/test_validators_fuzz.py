"""Whatever a model's files hold: they are read, or refused in words that are meant for people."""

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import MANIFEST_FILE, ManifestError, read_manifest
from mlx_serve_worker import weights
from mlx_serve_worker.inspection import Origin, inspect
from tests.engine import safetensors_file, tiny, tiny_rerankers
from tests.engine.tiny_chat import write_chat_repository

pytestmark = pytest.mark.engine

REFUSALS = {ErrorCode.INVALID_MODEL, ErrorCode.UNSAFE_MODEL, ErrorCode.UNSUPPORTED_PARAMETER}
JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 10**30, 0.5, -1.5, 1e308, "", "x", "\0",
    "../../x", "/etc/passwd", "x" * 2000, "{{ 1 }}", "가", [], [[]], {}, [None], {"": None}, ["x"],
    {"model_file": "x.py"}, {"auto_map": {"AutoModel": "x.Y"}}, [1, "x", None, {}], [[[[[[0]]]]]],
]  # fmt: skip
SIDES = st.sampled_from([0, 1, 2, 4, -1, 2**31 - 1, 2**31, 2**63, 10**30, 1.5, "4", None])
ENTRIES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F4", "", 4, None]),
        "shape": st.lists(SIDES, max_size=9) | SIDES,
        "data_offsets": st.lists(SIDES, max_size=3) | SIDES,
        "more": st.just({}),
    },
)
HEADERS = st.dictionaries(
    st.sampled_from(["a", "b", "", "__metadata__", "\0"]), ENTRIES, max_size=4
)
QUICKLY = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
THOROUGHLY = settings(QUICKLY, max_examples=60)


@QUICKLY
@given(
    header=HEADERS | st.binary(max_size=40), data=st.binary(max_size=40), length=st.none() | SIDES
)
def test_weights(header: Any, data: bytes, length: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    fits = isinstance(length, int) and 0 <= length < 2**64
    safetensors_file.write_raw(path, header, data, length if fits else None)
    try:
        tensors = weights.read_header(path)
    except ServeError as refused:
        _check(refused, tmp_path)
        return
    sizes = [math.prod(each.shape) * weights._ITEM_BYTES[each.dtype] for each in tensors]
    assert sum(sizes) <= path.stat().st_size
    if not fits:
        assert sum(sizes) == len(data)


@QUICKLY
@given(data=st.data())
def test_manifest(data: st.DataObject, tmp_path: Path) -> None:
    value: Any = {"name": "a", "kind": "embedding", "architecture": "bert", "created_at": "2026"}
    names = [
        "schema",
        "pipeline",
        "prompts",
        "files",
        "options",
        "chat",
        "quantization",
        "verified",
    ]
    for name in data.draw(st.lists(st.sampled_from([*value, *names]), max_size=4)):
        value[name] = data.draw(st.sampled_from(JUNK))
    raw = data.draw(st.sampled_from([json.dumps(value).encode(), b"", b"\xff", b"[" * 100_000]))
    (tmp_path / MANIFEST_FILE).write_bytes(raw)
    try:
        manifest = read_manifest(tmp_path)
    except ManifestError as error:
        assert str(tmp_path) not in str(error)
    else:
        assert msgspec.json.decode(msgspec.json.encode(manifest), type=type(manifest)) == manifest


@pytest.fixture(scope="module", params=["encoder", "reranker", "chat"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    match request.param:
        case "encoder":
            return tiny.build(tiny.LAYOUTS["dense-gelu-normalized"], folder)
        case "reranker":
            layout = next(iter(tiny_rerankers.LAYOUTS.values()))
            return tiny_rerankers.build(layout, folder)
        case _:
            return write_chat_repository(folder / "chat")


@THOROUGHLY
@given(data=st.data())
def test_settings(data: st.DataObject, repository: Path, tmp_path: Path) -> None:
    """Up to three values of the settings of a good model are something else, or a file is."""
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(repository, folder)
    files = sorted(path for path in folder.rglob("*.json") if path.name != "tokenizer.json")
    for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=3)):
        value = json.loads(path.read_text())
        path.write_text(json.dumps(_changed(data, value)))
    try:
        found = inspect(folder, Origin("fuzzed"))
    except ServeError as refused:
        _check(refused, tmp_path)
    else:
        assert found.manifest.name == "fuzzed"
        assert all(name and not name.startswith(("/", "..")) for name in found.files)


def test_an_epsilon_of_zero_is_refused(repository: Path, tmp_path: Path) -> None:
    """Found by the test above; MLX refuses it with an error of its own."""
    folder = shutil.copytree(repository, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (name,) = [key for key in config if key.endswith("_eps")]
    (folder / "config.json").write_text(json.dumps(config | {name: 0}))
    with pytest.raises(ServeError, match="config") as refused:
        inspect(folder, Origin("fuzzed"))
    _check(refused.value, tmp_path)


def _changed(data: st.DataObject, value: Any) -> Any:
    """The value with something else in one place."""
    changed = copy.deepcopy(value)
    holder = changed
    while isinstance(holder, dict | list) and holder:
        key = data.draw(
            st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder)))
        )
        inner = holder[key]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
            holder = inner
            continue
        holder[key] = data.draw(st.sampled_from(JUNK))
        return changed
    return data.draw(st.sampled_from(JUNK))


def _check(refused: ServeError, folder: Path) -> None:
    assert refused.code in REFUSALS
    assert str(folder) not in refused.message
    assert "Traceback" not in refused.message
