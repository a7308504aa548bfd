from typing import Any

import msgspec
import pytest

from mlx_serve_common.fingerprint import index_fingerprint
from mlx_serve_common.models import Dense, FileRecord, Manifest, ModelKind, Normalize, Pooling

MANIFEST = Manifest(
    name="m",
    kind=ModelKind.EMBEDDING,
    architecture="bert",
    created_at="2026-01-01T00:00:00Z",
    dimensions=32,
    pipeline=[Pooling(["mean"]), Normalize()],
    prompts={"query": "Q: ", "document": ""},
    files={
        "model.safetensors": FileRecord(10, "aa"),
        "config.json": FileRecord(5, "bb"),
    },
)


def changed(**changes: Any) -> str:
    return index_fingerprint(msgspec.structs.replace(MANIFEST, **changes))


def test_it_is_short_and_stays_the_same() -> None:
    # Indexes keep it: another value here makes every one of them refuse its model.
    assert index_fingerprint(MANIFEST) == "7f123a9b7b457ab0"


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "roberta"},
        {"files": {"model.safetensors": FileRecord(10, "cc")}},
        {"quantization": {"bits": 4, "group_size": 64}},
        {"pipeline": [Pooling(["cls"]), Normalize()]},
        {"pipeline": [Pooling(["mean"], include_prompt=False), Normalize()]},
        {"pipeline": [Pooling(["mean"])]},
        {"pipeline": [Pooling(["mean"]), Dense("2_Dense", "tanh"), Normalize()]},
        {"default_prompt": "query"},
        {"dimensions": 16},
    ],
)
def test_what_makes_vectors_incomparable(changes: dict[str, Any]) -> None:
    assert changed(**changes) != index_fingerprint(MANIFEST)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"source": "org/m"},
        {"created_at": "2027-01-01T00:00:00Z"},
        {"default_prompt": "document"},
        {"files": {**MANIFEST.files, "config.json": FileRecord(6, "dd")}},
    ],
)
def test_what_changes_no_vector(changes: dict[str, Any]) -> None:
    assert changed(**changes) == index_fingerprint(MANIFEST)


def test_wishes_of_a_request() -> None:
    own = index_fingerprint(MANIFEST)
    assert index_fingerprint(MANIFEST, prompt="") == own
    assert index_fingerprint(MANIFEST, normalize=True) == own
    assert index_fingerprint(MANIFEST, dimensions=32) == own
    others = {
        index_fingerprint(MANIFEST, prompt="Q: "),
        index_fingerprint(MANIFEST, normalize=False),
        index_fingerprint(MANIFEST, dimensions=16),
        index_fingerprint(MANIFEST, dimensions=16, normalize=False),
    }
    assert len(others | {own}) == 5


def test_shortened_vectors_are_scaled_unless_declined() -> None:
    raw = msgspec.structs.replace(MANIFEST, pipeline=[Pooling(["mean"])])
    assert index_fingerprint(raw, dimensions=16) == index_fingerprint(
        raw, dimensions=16, normalize=True
    )
    assert index_fingerprint(raw, dimensions=16) != index_fingerprint(
        raw, dimensions=16, normalize=False
    )


def test_the_revision_stands_in_for_weights_without_a_record() -> None:
    one = msgspec.structs.replace(MANIFEST, files={}, revision="1")
    assert index_fingerprint(one) != index_fingerprint(msgspec.structs.replace(one, revision="2"))
