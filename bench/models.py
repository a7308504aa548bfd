"""The models that are measured, made or imported once into a folder of their own.

The embedding model is the starter model. The reranker has its weights and a head from a seed, the
chat model is all from a seed: what they say means nothing, what they cost is real.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.worker_env import worker_environment
from tests.engine import safetensors_file
from tests.engine.tiny_chat import CALLS, SPECIALS, THOUGHTS, chat_tokenizer, write_chat_repository
from tests.store import ModelStore

ROOT = Path(__file__).resolve().parent.parent
_STARTER = ROOT / ".venv/share/starter/all-MiniLM-L6-v2"
_FIFTY_MILLION: dict[str, Any] = {
    "hidden_size": 512,
    "num_hidden_layers": 16,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "intermediate_size": 1536,
}
_ARCHITECTURE = "qwen2"
SECOND = "embedder-2"
"""The embedding model once more."""
NOTHING, WIDE, TALKER = "nothing", "wide", "talker"
"""The names of models that compute next to nothing: small vectors, large ones, and words."""
_STEP_S = 0.002
_WIDTH = 1024


class Models(NamedTuple):
    store: Path
    """Where this server finds them installed."""
    embedder: Path
    reranker: Path
    chat: Path
    """As their publishers would have them, for everybody else."""
    marks: list[int]
    """Ids of the chat model that end an answer, or make it something else than a text."""


def real(folder: Path) -> Models:
    models = Models(
        folder / "models", _STARTER, folder / "reranker", folder / "chat", _marks(_ARCHITECTURE)
    )
    if not models.store.exists():
        _write_reranker(models.reranker)
        write_chat_repository(models.chat, _ARCHITECTURE, **_FIFTY_MILLION)
        for kind in ("embedder", "reranker", "chat"):
            _install(models.store, kind, getattr(models, kind))
    if not (models.store / SECOND).exists():
        _install(models.store, SECOND, models.embedder)
    _add_fakes(ModelStore(models.store))
    return models


def fake(folder: Path) -> Models:
    """Of the ``fake`` backend: for seeing that everything runs."""
    store = ModelStore(folder / "models")
    store.add("embedder")
    store.add(SECOND)
    store.add("reranker", ModelKind.RERANKER)
    store.add("chat", ModelKind.CHAT)
    _add_fakes(store)
    return Models(store.models_dir, folder, folder, folder, [])


def _add_fakes(store: ModelStore) -> None:
    for name, dimensions in ((NOTHING, 8), (WIDE, _WIDTH)):
        if not (store.models_dir / name).exists():
            store.add(name, dimensions=dimensions)
    if not (store.models_dir / TALKER).exists():
        store.add(TALKER, ModelKind.CHAT, step_s=_STEP_S)


def _install(store: Path, name: str, source: Path) -> None:
    subprocess.run(
        [
            sys.executable, "-P", "-m", "mlx_serve_worker.job", "import",
            "--source", str(source), "--models-dir", str(store), "--name", name,
        ],
        env=worker_environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _write_reranker(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (_STARTER / name).exists():
            shutil.copy(_STARTER / name, folder)
    config = json.loads((_STARTER / "config.json").read_text())
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(0)
    head = random.normal(0, 0.02, (1, config["hidden_size"])).astype(np.float32)
    tensors = {f"bert.{name}": values for name, values in _starter_tensors().items()}
    tensors |= {"classifier.weight": head, "classifier.bias": np.zeros(1, np.float32)}
    safetensors_file.write(folder / "model.safetensors", tensors, "F32")


def _starter_tensors() -> dict[str, np.ndarray]:
    import mlx.core as mx

    loaded = mx.load(str(_STARTER / "model.safetensors"))
    assert isinstance(loaded, dict)
    floats = {name: values for name, values in loaded.items() if values.dtype == mx.float32}
    return {name: np.array(values) for name, values in floats.items()}


def _marks(architecture: str) -> list[int]:
    tokenizer = chat_tokenizer(architecture)
    vocabulary = tokenizer.get_vocab()
    marks = (*SPECIALS, *THOUGHTS, *CALLS)
    return [vocabulary[mark] for mark in marks if mark in vocabulary]
