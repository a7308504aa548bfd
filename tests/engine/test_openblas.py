"""OpenBLAS in a process that has a worker's environment."""

import pytest

from mlx_serve_gateway.worker_env import find_openblas, worker_environment
from tests.engine.python import run_python

_REST = """
import time
import mlx.core as mx
from mlx_serve_worker.openblas import openblas

assert openblas() is not None
x = mx.ones((512, 512))
burnt = []
for _ in range(5):
    mx.eval(x @ x)
    began = time.process_time()
    time.sleep(0.03)
    burnt.append(time.process_time() - began)
print(1000 * min(burnt))
"""

pytestmark = pytest.mark.engine


@pytest.mark.skipif(find_openblas() is None, reason="no OpenBLAS here")
def test_its_threads_rest_when_there_is_nothing_to_multiply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in worker_environment().items():
        monkeypatch.setenv(name, value)
    # By itself it asks for work for 27 ms more, on each core but one.
    assert float(run_python(_REST)) < 5
