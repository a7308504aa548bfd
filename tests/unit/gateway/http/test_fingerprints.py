"""Fingerprints are remembered, and are those of the model that answers."""

import msgspec
import pytest

from mlx_serve_common.fingerprint import index_fingerprint
from mlx_serve_common.models import Manifest, ModelKind
from mlx_serve_gateway.calls import EmbedOptions
from mlx_serve_gateway.http import fingerprints
from mlx_serve_gateway.http.fingerprints import Fingerprints

MANIFEST = Manifest(
    name="a",
    kind=ModelKind.EMBEDDING,
    architecture="bert",
    created_at="2026-01-01T00:00:00Z",
    revision="1",
    dimensions=64,
)


@pytest.mark.parametrize(
    "options",
    [
        EmbedOptions(),
        EmbedOptions(prompt="query: "),
        EmbedOptions(prompt="q" * 5000),
        EmbedOptions(dimensions=32),
        EmbedOptions(normalize=True),
    ],
)
def test_it_is_that_of_what_was_asked(options: EmbedOptions) -> None:
    known = Fingerprints()
    known.of(MANIFEST, EmbedOptions())
    expected = index_fingerprint(
        MANIFEST,
        prompt=options.prompt,
        dimensions=options.dimensions,
        normalize=options.normalize,
    )
    assert [known.of(MANIFEST, options) for _ in range(2)] == [expected] * 2


def test_a_model_that_was_replaced_has_another() -> None:
    known = Fingerprints()
    before = known.of(MANIFEST, EmbedOptions())
    other = msgspec.structs.replace(MANIFEST, revision="2")
    assert known.of(other, EmbedOptions()) == index_fingerprint(other) != before


def test_it_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Fingerprints()
    known.of(MANIFEST, EmbedOptions(encoding="float"))
    monkeypatch.delattr(fingerprints, "index_fingerprint")
    assert known.of(MANIFEST, EmbedOptions(encoding="base64"))


def test_what_is_remembered_is_bounded() -> None:
    known = Fingerprints()
    for number in range(1000):
        known.of(MANIFEST, EmbedOptions(prompt=str(number)))
    known.of(MANIFEST, EmbedOptions(prompt="q" * 5000))
    assert len(known._known) <= 256
    assert all(len(str(key[1])) < 5000 for key in known._known)
