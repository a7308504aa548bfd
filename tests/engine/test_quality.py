"""The figures by which a quantized model is compared with its original."""

import numpy as np
import pytest

from mlx_serve_common.models import ModelKind
from mlx_serve_worker.quality import compare
from mlx_serve_worker.quality_texts import QUERIES, TEXTS

pytestmark = pytest.mark.engine


def test_equal_answers_at_any_length() -> None:
    vectors = np.random.RandomState(1).standard_normal((6, 8))
    found = compare(ModelKind.EMBEDDING, vectors, 3 * vectors)
    assert (found.mean_cosine, found.min_cosine, found.rank_correlation) == (1, 1, 1)
    assert (found.texts, found.mean_score_diff, found.max_score_diff) == (6, None, None)


def test_turned_vectors() -> None:
    before = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    after = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = compare(ModelKind.EMBEDDING, before, after)
    assert found.min_cosine == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert found.mean_cosine == pytest.approx((2 + np.sqrt(0.5)) / 3, abs=1e-6)
    # Similarities were 0, 0.7, 0.7 and became 0, 1, 0: ranks 1, 2.5, 2.5 and 1.5, 3, 1.5.
    assert found.rank_correlation == pytest.approx(0.5, abs=1e-6)


def test_scores() -> None:
    before = np.array([[0.0, 1.0, 2.0], [5.0, 6.0, 7.0]])
    found = compare(ModelKind.RERANKER, before, np.array([[0.0, 1.0, 2.0], [7.0, 6.0, 5.0]]))
    # One query keeps its order, the other's is turned round.
    assert found.rank_correlation == 0
    assert found.texts == 6
    moved = 1 / (1 + np.exp(-7.0)) - 1 / (1 + np.exp(-5.0))
    assert found.max_score_diff == pytest.approx(moved, abs=1e-6)
    assert found.mean_score_diff == pytest.approx(moved / 3, abs=1e-6)
    assert (found.mean_cosine, found.min_cosine) == (None, None)


def test_without_any_order_none_is_lost() -> None:
    flat = np.zeros((2, 3))
    assert compare(ModelKind.RERANKER, flat, flat).rank_correlation == 1


def test_texts() -> None:
    assert len(set(TEXTS)) == len(TEXTS) == 100
    assert len(TEXTS) % len(QUERIES) == 0, "every query has its share"
