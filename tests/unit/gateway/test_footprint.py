"""How much memory a model is given: more than its weights; for answers never all there is."""

import msgspec
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
    assert footprints.allowance(manifest(ModelKind.EMBEDDING, 1)).generation is None
    chat, embedding = (
        footprints.of(manifest(kind, 1)) for kind in (ModelKind.CHAT, ModelKind.EMBEDDING)
    )
    limits = footprints.allowance(manifest(ModelKind.CHAT, 1)).generation
    assert limits is not None
    assert chat - embedding == limits.cache_bytes == 4 * GIB
    assert limits.prompt_cache_bytes == 2 * GIB


def test_heavy_weights_leave_less_for_answers_but_never_nothing() -> None:
    footprints = Footprints(16 * GIB, ChatConfig())
    heavy = footprints.allowance(manifest(ModelKind.CHAT, 12)).generation
    assert heavy is not None
    assert 1 * GIB < heavy.cache_bytes < 2 * GIB
    assert footprints.of(manifest(ModelKind.CHAT, 12)) <= 16 * GIB
    too_heavy = footprints.allowance(manifest(ModelKind.CHAT, 20)).generation
    assert too_heavy is not None
    assert too_heavy.cache_bytes > 0
    assert footprints.of(manifest(ModelKind.CHAT, 20)) > 16 * GIB


def test_what_is_configured_is_taken() -> None:
    chat = ChatConfig(max_sequences=3, prefill_tokens=77, prompt_cache_bytes=5)
    limits = Footprints(GIB, chat).allowance(manifest(ModelKind.CHAT, 0)).generation
    assert limits is not None
    assert (limits.max_sequences, limits.prefill_tokens, limits.prompt_cache_bytes) == (3, 77, 5)
    greedy = Footprints(GIB, ChatConfig(prompt_cache_bytes=2**40))
    limits = greedy.allowance(manifest(ModelKind.CHAT, 0)).generation
    assert limits is not None
    assert limits.prompt_cache_bytes == limits.cache_bytes


def stored(kind: ModelKind, gib: float, dtype: str, bits: int | None = None) -> Manifest:
    quantization = None if bits is None else {"bits": bits, "group_size": 64, "mode": "affine"}
    return msgspec.structs.replace(manifest(kind, gib), dtype=dtype, quantization=quantization)


PLAIN = stored(ModelKind.CHAT, 1, "float32")
HALF = stored(ModelKind.CHAT, 1, "bfloat16")
FOUR_BITS = stored(ModelKind.CHAT, 0.5, "bfloat16", bits=4)


def test_without_a_gpu_models_are_computed_in_float32_and_count_as_such() -> None:
    footprints = Footprints(32 * GIB, ChatConfig(), has_gpu=False)
    chat = {bits: footprints.of(stored(ModelKind.CHAT, 1, "float16", bits)) for bits in (4, 8)}
    plain, half = footprints.of(PLAIN), footprints.of(HALF)
    assert half - plain == pytest.approx(1.2 * GIB)
    assert chat[8] - plain == pytest.approx(1.2 * 3 * GIB)
    assert chat[4] - plain == pytest.approx(1.2 * 7 * GIB)
    assert footprints.allowance(HALF).widens
    assert footprints.allowance(FOUR_BITS).widens


def test_what_would_take_most_of_the_memory_stays_as_it_is_stored() -> None:
    footprints = Footprints(4 * GIB, ChatConfig(), has_gpu=False)
    for each in (HALF, FOUR_BITS):
        assert not footprints.allowance(each).widens
        assert footprints.of(each) < footprints.of(PLAIN) + 1
    assert not footprints.allowance(stored(ModelKind.RERANKER, 0.5, "float16", bits=4)).widens


def test_a_worker_computes_embeddings_in_float32_whatever_they_take() -> None:
    half = stored(ModelKind.EMBEDDING, 3, "float16")
    footprints = Footprints(4 * GIB, ChatConfig(), has_gpu=False)
    assert footprints.of(half) > 1.2 * 6 * GIB
    assert footprints.allowance(half).widens


def test_a_gpu_computes_everything_as_it_is_stored() -> None:
    footprints = Footprints(32 * GIB, ChatConfig(), has_gpu=True)
    for each in (PLAIN, HALF, FOUR_BITS):
        assert not footprints.allowance(each).widens
    assert footprints.of(HALF) == footprints.of(PLAIN)


@pytest.mark.parametrize("bits", [None, 0, -4, "four", 2.5])
def test_a_manifest_without_sense_counts_with_the_most(bits: object) -> None:
    odd = msgspec.structs.replace(FOUR_BITS, quantization={"bits": bits})
    two_bits = msgspec.structs.replace(FOUR_BITS, quantization={"bits": 2})
    footprints = Footprints(128 * GIB, ChatConfig(), has_gpu=False)
    assert footprints.of(odd) == footprints.of(two_bits)
