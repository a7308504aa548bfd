"""How much memory a model is given: more than its weights; for answers never all there is."""

import pytest

from mlx_serve_common.config import ChatConfig
from mlx_serve_common.models import Manifest, ModelKind
from mlx_serve_gateway.footprint import Footprints

GIB = 1024**3


def manifest(kind: ModelKind, weights_gib: float) -> Manifest:
    return Manifest(
        name="m", kind=kind, architecture="x", created_at="", weights_bytes=int(weights_gib * GIB)
    )


@pytest.mark.parametrize("kind", list(ModelKind))
@pytest.mark.parametrize("weights_gib", [0, 0.001, 7])
def test_a_model_takes_more_than_its_weights(kind: ModelKind, weights_gib: float) -> None:
    footprints = Footprints(16 * GIB, ChatConfig())
    assert footprints.of(manifest(kind, weights_gib)) > 1.19 * weights_gib * GIB


def test_only_a_chat_model_is_given_room_for_answers() -> None:
    footprints = Footprints(16 * GIB, ChatConfig())
    assert footprints.generation_limits(manifest(ModelKind.EMBEDDING, 1)) is None
    chat, embedding = (
        footprints.of(manifest(kind, 1)) for kind in (ModelKind.CHAT, ModelKind.EMBEDDING)
    )
    limits = footprints.generation_limits(manifest(ModelKind.CHAT, 1))
    assert limits is not None
    assert chat - embedding == limits.cache_bytes == 4 * GIB
    assert limits.prompt_cache_bytes == 2 * GIB


def test_heavy_weights_leave_less_for_answers_but_never_nothing() -> None:
    footprints = Footprints(16 * GIB, ChatConfig())
    heavy = footprints.generation_limits(manifest(ModelKind.CHAT, 12))
    assert heavy is not None
    assert 1 * GIB < heavy.cache_bytes < 2 * GIB
    assert footprints.of(manifest(ModelKind.CHAT, 12)) <= 16 * GIB
    too_heavy = footprints.generation_limits(manifest(ModelKind.CHAT, 20))
    assert too_heavy is not None
    assert too_heavy.cache_bytes > 0
    assert footprints.of(manifest(ModelKind.CHAT, 20)) > 16 * GIB


def test_what_is_configured_is_taken() -> None:
    chat = ChatConfig(max_sequences=3, prefill_tokens=77, prompt_cache_bytes=5)
    limits = Footprints(GIB, chat).generation_limits(manifest(ModelKind.CHAT, 0))
    assert limits is not None
    assert (limits.max_sequences, limits.prefill_tokens, limits.prompt_cache_bytes) == (3, 77, 5)
    greedy = Footprints(GIB, ChatConfig(prompt_cache_bytes=2**40))
    limits = greedy.generation_limits(manifest(ModelKind.CHAT, 0))
    assert limits is not None
    assert limits.prompt_cache_bytes == limits.cache_bytes
