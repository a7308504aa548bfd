"""Peers: those that are there are started as they are meant to be, the others are named."""

from pathlib import Path

import pytest

from bench.library import LIBRARIES
from bench.models import Models
from bench.subjects import peers

MODELS = Models(Path("store"), Path("embedder"), Path("reranker"), Path("chat"), [])


def test_a_peer_is_run_from_its_environment(tmp_path: Path) -> None:
    program = tmp_path / "bin/infinity_emb"
    program.parent.mkdir()
    program.touch()
    (found,), absent = peers([f"infinity={tmp_path}"], MODELS)

    assert found.command[0] == str(program)
    assert {"embedder", "reranker"} <= set(found.command)
    assert len(absent) == 3


def test_what_a_peer_computes_with_is_measured_in_its_environment(tmp_path: Path) -> None:
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.touch()
    (found,), _ = peers([f"mlx_vlm.server={tmp_path}"], MODELS)

    assert found.library is not None
    program, _, library, model = found.library
    assert (program, library, model) == (str(python), "mlx_embeddings", "embedder")
    assert library in LIBRARIES


def test_a_peer_that_is_not_there_is_named(tmp_path: Path) -> None:
    found, absent = peers([f"infinity={tmp_path}"], MODELS)

    assert found == []
    assert f"infinity: no {tmp_path}/bin/infinity_emb" in absent
    assert "mlx_lm.server: not given" in absent


def test_a_peer_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="ollama"):
        peers([f"ollama={tmp_path}"], MODELS)
