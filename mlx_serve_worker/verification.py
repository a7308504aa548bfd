"""Are a model's answers right on this machine? Briefly at install time, in full on request.

Invariants: computes with the same code as a worker; what fails is told in ``problems``, what was
left out in ``not_checked``, and ``passed`` means that there is no problem.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest, ModelKind, Verified, read_manifest
from mlx_serve_worker import parity
from mlx_serve_worker.backend import Backend, Prepared
from mlx_serve_worker.backend_choice import make_backend
from mlx_serve_worker.probe import Probe

_BRIEF_TEXTS = (
    "A short text.",
    "A longer text, so that the short one has to be padded: 1, 2, 3, 한국어, ünïcödé. " * 3,
)
_TEXTS = (
    *_BRIEF_TEXTS,
    "",
    "Hello world",
    "The QUICK brown fox jumps over the lazy dog, then sleeps: 12.5% of its day!",
    "안녕하세요, 오늘 서울의 날씨는 맑고 따뜻합니다.",
    "漢字とかな混じりの文、测试。",
    "Crème brûlée 🍮 naïve déjà-vu 👩‍👩‍👧 fin",
    "  blanks\tand\n\nnew lines  ",
    "def add(a, b):\n    return a + b",
    "Every good model counts its tokens before it reads them, and says so. " * 20,
)
# Of a row's largest number. Half precision on a GPU differs by up to a hundredth.
_BATCH_TOLERANCE = 0.02


def try_out(folder: Path) -> Verified:
    """The brief form; raises ``invalid_model`` if the model does not pass."""
    try:
        verified = verify(folder, brief=True)
    except ServeError as error:
        if error.code is ErrorCode.INVALID_MODEL:
            raise
        raise _failed(error.message) from None
    if not verified.passed:
        raise _failed(verified.problems[0])
    return verified


def _failed(reason: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, f"the model fails its trial run: {reason}")


def verify(folder: Path, *, brief: bool = False) -> Verified:
    manifest = read_manifest(folder)
    backend = make_backend(folder)
    backend.load()
    checks = _Checks(manifest, backend)
    checks.run(_BRIEF_TEXTS if brief else _TEXTS)
    if brief:
        checks.not_checked.append("prompts and parity: run `mlx-serve verify`")
    else:
        checks.run_long(folder, _TEXTS)
    return checks.result()


class _Checks:
    def __init__(self, manifest: Manifest, backend: Backend) -> None:
        self._manifest = manifest
        self._device = backend.device
        self._probe = Probe(backend, manifest.kind)
        self.problems: list[str] = []
        self.not_checked: list[str] = []
        self._finite = True
        self._batch_max_diff: float | None = None
        self._dimensions_ok: bool | None = None
        self._prompts_ok: bool | None = None
        self._parity: parity.Parity | None = None

    def result(self) -> Verified:
        return Verified(
            when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            device=self._device,
            passed=not self.problems,
            problems=self.problems,
            finite=self._finite,
            batch_max_diff=self._batch_max_diff,
            dimensions_ok=self._dimensions_ok,
            prompts_ok=self._prompts_ok,
            parity=self._parity,
            not_checked=self.not_checked,
        )

    def run(self, texts: Sequence[str]) -> None:
        inputs = self._probe.prepare(texts)
        together = self._probe.rows(inputs)
        alone = [self._probe.rows([item])[0] for item in inputs]
        rows = [pair for pair in zip(together, alone, strict=True) if None not in pair]
