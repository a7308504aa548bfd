"""The starter model, installed by the job, equals sentence-transformers: alone and among others."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_serve_gateway.blas import libraries
from mlx_serve_gateway.worker_env import worker_environment
from tests.engine import starter
from tests.engine.models import from_base64, golden

pytestmark = pytest.mark.engine

# Without an optimised BLAS this model is thirty times slower.
_NEIGHBOURS = 500 if sys.platform == "darwin" or libraries.installed() else 20
_ROOT = Path(__file__).parents[2]

_COMPUTE = """
import base64, json, sys
from pathlib import Path
from mlx_serve_worker.planner import plan
from tests.engine import starter
from tests.engine.models import embed, load, prepare

def as_text(vector):
    return base64.b64encode(vector.tobytes()).decode()

backend = load(Path(sys.argv[1]))
texts = [*starter.TEXTS.values()]
inputs = prepare(backend, texts)
alone = [as_text(embed(backend, [item])[0]) for item in inputs]

neighbours = [f"neighbour {index}" + " and more" * (index % 3) for index in range(int(sys.argv[2]))]
for position, text in enumerate(texts):
    neighbours.insert(position * len(neighbours) // len(texts), text)
among = prepare(backend, neighbours)
found = {}
for group in plan([item.length for item in among], max_items=32, max_tokens=backend.batch_tokens):
    for at, vector in zip(group, embed(backend, [among[at] for at in group]), strict=True):
        found[neighbours[at]] = as_text(vector)
json.dump({
    "token_counts": [item.length for item in inputs],
    "truncated": [item.truncated for item in inputs],
    "alone": alone,
    "among": [found[text] for text in texts],
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    source = starter.folder()
    if source is None:
        pytest.skip("the starter model is not here; scripts/starter fetches it")
    models = tmp_path_factory.mktemp("models")
    job = [sys.executable, "-P", "-m", "mlx_serve_worker.job", "import", "--name=MiniLM"]
    arguments = [*job, f"--source={source}", f"--models-dir={models}"]
    subprocess.run(arguments, env=environment(), check=True, stdout=subprocess.DEVNULL, timeout=60)
    yield models / "MiniLM"
    # 90 MB that pytest would keep three times.
    shutil.rmtree(models)


def environment() -> dict[str, str]:
    return worker_environment() | {"PYTHONPATH": str(_ROOT), "PATH": os.environ["PATH"]}


@pytest.fixture(scope="module")
def computed(installed: Path) -> Any:
    run = subprocess.run(
        [sys.executable, "-c", _COMPUTE, str(installed), str(_NEIGHBOURS)],
        env=environment(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("company", ["alone", "among"])
def test_vectors_equal_the_reference(company: str, computed: Any) -> None:
    vectors = np.stack([from_base64(text) for text in computed[company]])
    expected = golden("starter.json").vectors
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)


def test_texts_are_read_as_far_as_the_reference_does(computed: Any) -> None:
    assert computed["token_counts"] == golden("starter.json").token_counts
    cut = dict(zip(starter.TEXTS, computed["truncated"], strict=True))
    assert cut == dict.fromkeys(starter.TEXTS, False) | {"cut": True}
