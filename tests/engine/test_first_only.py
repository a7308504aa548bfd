"""Models of which only each text's first token is read compute no other in their last layer.

That their results are the reference's is in ``test_parity``, ``test_encoder_parity`` and
``test_cross_encoders``.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_serve_common.models import Pooling
from mlx_serve_worker import architectures
from tests.engine import rerankers, tiny_encoders, tiny_rerankers
from tests.engine.models import load, load_layout, manifested

pytestmark = pytest.mark.engine

LENGTHS = (9, 4, 1)
IDS = mx.array(np.random.default_rng(3).integers(5, 60, (len(LENGTHS), max(LENGTHS))))
MASK = mx.arange(max(LENGTHS))[None, :] < mx.array(LENGTHS)[:, None]
MODEL_TYPES = ["bert", "distilbert", "mpnet", "roberta", "xlm-roberta"]


def reranker_encoder(name: str, folder: Path) -> Any:
    scorer: Any = rerankers.cross_encoder(name, folder)._scorer
    return scorer.model.encoder


@pytest.mark.parametrize("mask", [MASK, None], ids=["padded", "of one length"])
@pytest.mark.parametrize("name", MODEL_TYPES)
def test_the_first_tokens_are_those_of_the_whole(
    name: str, mask: mx.array | None, tmp_path: Path
) -> None:
    encoder = reranker_encoder(name, tmp_path)
    first = encoder(IDS, mask)
    encoder.first_only = False
    whole = encoder(IDS, mask)

    assert first.shape == (*IDS.shape[:1], 1, encoder.dimensions)
    assert whole.shape == (*IDS.shape, encoder.dimensions)
    np.testing.assert_allclose(np.array(first), np.array(whole[:, :1]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "first_only"),
    [
        ("cls", True),
        ("new-settings", True),
        ("mean", False),
        ("three-modes", False),
        ("last-token", False),
        ("prompt-left-out", False),
    ],
)
def test_pooling_tells_whether_others_are_read(name: str, first_only: bool, tmp_path: Path) -> None:
    encoder: Any = load_layout(name, tmp_path)._encoder
    assert encoder.first_only is first_only


def test_a_first_token_behind_a_left_out_prompt_is_computed(tmp_path: Path) -> None:
    folder = tiny_encoders.build(tiny_encoders.LAYOUTS["roberta-cls"], tmp_path)
    manifested(folder, pipeline=[Pooling(["cls"], include_prompt=False)])
    encoder: Any = load(folder)._encoder
    assert encoder.first_only is False


def test_heads_that_read_the_first_token_say_so(tmp_path: Path) -> None:
    for name in sorted({layout.model_type for layout in tiny_rerankers.LAYOUTS.values()}):
        encoder = reranker_encoder(name, tmp_path / name)
        assert getattr(encoder, "first_only", True) is True, name


def test_an_encoder_that_computes_all_is_left_alone() -> None:
    encoder: Any = type("Encoder", (), {})()
    architectures.leave_out_all_but_first(encoder)
    assert not hasattr(encoder, "first_only")
