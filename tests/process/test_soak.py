"""``scripts/soak --quick``: everything is asked, every process is judged, and growth is told."""

import subprocess
import sys

import pytest

from bench.soak.samples import DESCRIPTORS, GATEWAY, HELD, MEMORY, THREADS
from tests.process.gateways import SOURCE, environment

pytestmark = pytest.mark.process


def test_every_process_is_judged() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bench.soak", "0.15", "--quick"],
        cwd=SOURCE,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for process in (GATEWAY, "embedder", "reranker", "chat"):
        for measure in (MEMORY, DESCRIPTORS, THREADS, HELD):
            is_told = f"| {process} | {measure} |" in done.stdout
            assert is_told is (process != GATEWAY or measure != HELD)
    assert "requests answered" in done.stderr
