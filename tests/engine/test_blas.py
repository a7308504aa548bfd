"""Each optimised BLAS of this machine, in a process that is started as a worker is."""

import json
import os
import sys
from typing import Any

import pytest

from mlx_serve_gateway.blas.candidates import OWN
from mlx_serve_gateway.blas.libraries import Kind, installed
from mlx_serve_gateway.worker_env import worker_environment
from tests.engine.python import run_python

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="Metal computes on macOS"),
]

_THREADS = {
    Kind.OPENBLAS: "openblas_get_num_threads",
    Kind.BLIS: "bli_thread_get_num_threads",
    Kind.MKL: "MKL_Get_Max_Threads",
}
_COMPUTE = """
import ctypes, json, sys, time
import mlx.core as mx
import numpy as np
from mlx_serve_worker import device, lanes
from mlx_serve_worker.blas import blas

device.configure()
found, threads = blas(), getattr(ctypes.CDLL(None), sys.argv[1])
# Whole numbers, and so small that float32 holds their sums.
left = np.random.default_rng(0).integers(-9, 9, (300, 384))
right = np.random.default_rng(1).integers(-9, 9, (200, 384))

def product(rows):
    return mx.array(left[:rows], dtype=mx.float32) @ mx.array(right, dtype=mx.float32).T

for rows in (1, 4, 300):
    assert np.array_equal(np.array(product(rows)), left[:rows] @ right.T), rows
burnt = []
for _ in range(5):
    mx.eval(mx.ones((512, 512)) @ mx.ones((512, 512)))
    began = time.process_time()
    time.sleep(0.03)
    burnt.append(1000 * (time.process_time() - began))
before = threads()
with found.in_lanes():
    in_lanes = threads()
    assert np.array_equal(np.array(product(300)), left @ right.T)
print(json.dumps({
    "configuration": found.configuration, "burnt_ms": min(burnt), "lanes": lanes.count(),
    "threads": [before, in_lanes, threads()], "identity": device.identity(),
    "name": device.OnDevice().matmul_library,
}))
"""


@pytest.fixture(params=[pytest.param(kind, id=kind) for kind in installed()])
def worker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv(OWN, request.param)
    for name, value in worker_environment().items():
        monkeypatch.setenv(name, value)
    told: dict[str, Any] = json.loads(run_python(_COMPUTE, _THREADS[request.param]))
    assert told["name"] == request.param
    return told


def test_it_computes_exactly_and_is_known_to_the_worker(worker: dict[str, Any]) -> None:
    before, in_lanes, after = worker["threads"]
    assert (in_lanes, after) == (1, before)
    if sys.platform == "linux":
        assert worker["lanes"] == len(os.sched_getaffinity(0))
    kernels = os.environ.get("OPENBLAS_CORETYPE")
    if worker["name"] == Kind.OPENBLAS and kernels is not None:
        assert worker["configuration"].endswith(f" for {kernels}")
    # What was measured with one library is not taken for another.
    assert worker["configuration"] in worker["identity"]


def test_its_threads_rest_when_there_is_nothing_to_multiply(worker: dict[str, Any]) -> None:
    # By itself OpenBLAS asks for work for 27 ms more, MKL for 200, on each core but one.
    assert worker["burnt_ms"] < 5
