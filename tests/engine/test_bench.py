"""What is measured without a server: each way of computing a text runs with a real model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.in_process import EmbedTask, InProcess
from bench.library import LIBRARIES
from bench.models import ROOT, Models
from bench.subjects import ours
from tests.engine import models, rerankers, tiny, tiny_rerankers

pytestmark = pytest.mark.engine
TEXTS = ["one", "two words", "and many words more than that"]


@pytest.fixture
def made(tmp_path: Path) -> Models:
    models.manifested(tiny.build(tiny.LAYOUTS["mean"], tmp_path / "embedder"))
    rerankers.manifested(
        tiny_rerankers.build(tiny_rerankers.LAYOUTS["bert"], tmp_path / "reranker")
    )
    return Models(tmp_path, tmp_path, tmp_path, tmp_path, [])


async def test_a_text_is_computed_as_the_server_would_and_as_it_would_not(made: Models) -> None:
    async with InProcess(made) as engine:
        for task in (
            EmbedTask(TEXTS, 2),
            EmbedTask(TEXTS, 2, in_one_pass=True),
            EmbedTask(TEXTS, 2, in_one_pass=True, padded=True),
        ):
            assert await engine.seconds(task) > 0


def test_our_library_is_measured_as_those_of_others_are(made: Models, tmp_path: Path) -> None:
    command = ours(made, tmp_path).library
    assert command is not None and command[:1] == (sys.executable,) and command[2] in LIBRARIES
    run = subprocess.run(
        [*command, "3"],
        input=json.dumps(TEXTS),
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert len(found) == 3 and min(found) > 0
