"""How fast each candidate multiplies here, found out by a process beside this one.

Invariants: it takes some seconds at most; who computes wrongly or ends its process has no speed.
"""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from mlx_serve_gateway.blas.candidates import Candidate

_PROBE = Path(__file__).with_name("probe.py")
_PROBE_S = 10.0


class Speed(NamedTuple):
    """In GFLOP/s: with the rows of a few running answers, and with those of a pass over texts."""

    few: float
    many: float


class Measurement:
    def __init__(self, candidates: tuple[Candidate, ...]) -> None:
        """Begins it; raises OSError."""
        asked = [(each.path, dict(each.settings)) for each in candidates]
        command = [sys.executable, "-I", "-S", str(_PROBE), msgspec.json.encode(asked).decode()]
        self._candidates = candidates
        self._process = subprocess.Popen(
            command,
            env={"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Of its own: it has started others when it has to be ended.
            process_group=0,
        )

    @functools.cached_property
    def speeds(self) -> Mapping[Candidate, Speed]:
        """Waits for its end."""
        try:
            said, _ = self._process.communicate(timeout=_PROBE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            said, _ = self._process.communicate()
        found = [Speed(*map(float, line.split())) for line in said.splitlines()]
        return dict(zip(self._candidates, found, strict=False))
