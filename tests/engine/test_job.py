"""The import job as a process: its events, its exit code, and its death at any moment."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent, decode_event
from mlx_serve_common.models import read_manifest
from tests.deaths import dying_at, points
from tests.engine import tiny
from tests.engine.models import load

pytestmark = pytest.mark.engine

_ROOT = Path(__file__).parents[2]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(_ROOT)}


def command(source: Path, models: Path, *more: str) -> list[str]:
    job = [sys.executable, "-P", "-m", "mlx_serve_worker.job"]
    return [*job, "import", f"--source={source}", f"--models-dir={models}", "--name=tiny", *more]


def run(arguments: list[str]) -> tuple[int, list[JobEvent]]:
    done = subprocess.run(arguments, env=_ENVIRONMENT, capture_output=True, timeout=60)
    assert b"Traceback" not in done.stdout
    return done.returncode, [decode_event(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tiny.LAYOUTS["mean"], tmp_path_factory.mktemp("source"))


def test_success_is_the_last_event(source: Path, tmp_path: Path) -> None:
    code, events = run(command(source, tmp_path / "models", "--source-id=org/tiny"))
    assert code == 0
    assert events[-1] == JobEvent(status="success", model="tiny")
    assert all(event.error is None for event in events)
    assert read_manifest(tmp_path / "models/tiny").source == "org/tiny"
    code, events = run(command(source, tmp_path / "models", "--exist-ok"))
    assert (code, events[-1]) == (0, JobEvent(status="success", model="tiny"))


@pytest.mark.parametrize(
    ("more", "error_code", "message"),
    [
        (["--type=chat"], ErrorCode.INVALID_MODEL, "not of type chat"),
        (["--type=other"], ErrorCode.INVALID_REQUEST, "--type"),
        (["--name=../x"], ErrorCode.INVALID_REQUEST, "../x"),
        (["--source=/nonexistent"], ErrorCode.INVALID_MODEL, "not a folder"),
        (["--models-dir=/dev/null/x"], ErrorCode.INTERNAL_ERROR, "directory"),
        (["--surprise"], ErrorCode.INVALID_REQUEST, "--surprise"),
    ],
)
def test_error_is_the_last_event(
    more: list[str], error_code: ErrorCode, message: str, source: Path, tmp_path: Path
) -> None:
    code, events = run(command(source, tmp_path / "models", *more))
    assert code == 1
    assert events[-1].code is error_code
    assert message in (events[-1].error or "")


def test_without_a_command(tmp_path: Path) -> None:
    code, events = run([sys.executable, "-P", "-m", "mlx_serve_worker.job"])
    assert (code, len(events)) == (1, 1)


_NOISY = """
import os
from mlx_serve_worker import installation, job

def noisy(*arguments):
    print("from Python")
    os.write(1, b"from C")
    raise RuntimeError("secret detail")

installation.try_out = noisy
raise SystemExit(job.main())
"""


def test_nothing_but_events_on_standard_output(source: Path, tmp_path: Path) -> None:
    arguments = command(source, tmp_path / "models")
    arguments[1:4] = ["-c", _NOISY]
    code, events = run(arguments)
    assert code == 1
    assert events[-1].code is ErrorCode.INTERNAL_ERROR
    assert "secret" not in (events[-1].error or "")


def started(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments, env=_ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def lines(job: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert job.stdout is not None
    return iter(job.stdout)


_POINTS = points(
    "mlx_serve_worker.installation:_copy_file",
    "mlx_serve_worker.installation:try_out",
    "mlx_serve_common.store:sync_tree",
    "mlx_serve_common.store:exchange",
    "pathlib/Path:rename",
    "mlx_serve_common.store:sync",
)


@pytest.mark.parametrize("point", _POINTS)
@pytest.mark.parametrize("replacing", [False, True])
def test_death_at_any_point_leaves_a_store_that_works(
    point: str, replacing: bool, source: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    if replacing:
        run(command(source, models))
    code, _ = run(dying_at(point, command(source, models, "--replace")))
    swaps = "exchange" in point
    assert code == -signal.SIGKILL or swaps != replacing
    if replacing or (models / "tiny").exists():
        load(models / "tiny")
    code, _ = run(command(source, models, "--replace"))
    assert code == 0
    load(models / "tiny")
    assert not [path for path in (models / ".staging").iterdir() if path.is_dir()]


def test_interrupted_job_cleans_up_and_says_so(source: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    with started(command(source, models)) as job:
        output = lines(job)
        next(output)
        job.send_signal(signal.SIGTERM)
        last = decode_event([*output][-1])
        assert job.wait() == 1
    assert last.code is ErrorCode.CANCELLED
    assert not (models / "tiny").exists()
    staging = models / ".staging"
    assert not staging.exists() or not [path for path in staging.iterdir() if path.is_dir()]


_SLOW = """
import time
from mlx_serve_worker import installation, job

def slow(*arguments):
    time.sleep(0.5)

installation.try_out = slow
raise SystemExit(job.main())
"""


def test_jobs_for_one_name_take_turns(source: Path, tmp_path: Path) -> None:
    arguments = command(source, tmp_path / "models")
    arguments[1:4] = ["-c", _SLOW]
    jobs = [started(arguments) for _ in range(3)]
    succeeded, copied = [], []
    for job in jobs:
        with job:
            events = [decode_event(line) for line in lines(job)]
        succeeded.append(events[-1].error is None)
        copied.append(any(event.status == "copying" for event in events))
    assert sorted(succeeded) == [False, False, True]
    assert copied == succeeded
    load(tmp_path / "models/tiny")
