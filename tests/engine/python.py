"""Code that needs a process of its own, because it is about what that imports or allocates."""

import os
import subprocess
import sys
from pathlib import Path

_ROOT = str(Path(__file__).parents[2])


def run_python(code: str, *arguments: str) -> str:
    """What the code prints."""
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": _ROOT},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
