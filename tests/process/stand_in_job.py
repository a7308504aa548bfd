"""Stands in for the job program: does what the name of the repository says, and loads no library.

``python -P -m tests.process.stand_in_job pull --repo=org/NAME --models-dir=DIR``. Every start is a
line in ``DIR/.starts``; one whose name begins with ``waits`` waits for ``DIR/.go-NAME``.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent, encode_event
from mlx_serve_common.models import ModelKind
from tests.store import ModelStore

DIGEST = "sha256:" + "ab12" * 16
TOTAL = 1000


def main() -> int:
    given = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[2:])
    models_dir = Path(given["models-dir"])
    name = given["repo"].rpartition("/")[2]
    with (models_dir / ".starts").open("a") as starts:
        starts.write(f"{os.getpid()} {' '.join(sys.argv[1:])}\n")
    say(JobEvent(status="resolving", detail=given["repo"]))
    for completed in (0, TOTAL // 4, TOTAL // 2):
        say(JobEvent(status="downloading", digest=DIGEST, total=TOTAL, completed=completed))
    if (end := misbehave(name, models_dir)) is not None:
        return end
    while name.startswith("waits") and not (models_dir / f".go-{name}").exists():
        time.sleep(0.005)
    say(JobEvent(status="downloading", digest=DIGEST, total=TOTAL, completed=TOTAL))
    say(JobEvent(status="verifying", detail="loading the model"))
    kind = ModelKind(given.get("type", "reranker" if name.endswith("reranker") else "embedding"))
    name = given.get("name", name)
    if not (models_dir / name).exists():
        ModelStore(models_dir).add(name, kind, source=given["repo"])
    say(JobEvent(status="success", model=name))
    return 0


def misbehave(name: str, models_dir: Path) -> int | None:
    match name:
        case "fails":
            say(JobEvent(error="there is no such repository", code=ErrorCode.MODEL_NOT_FOUND))
            return 1
        case "unfit":
            say(JobEvent(error="there are no weights", code=ErrorCode.INVALID_MODEL))
            return 1
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "is-interrupted":
            say(JobEvent(error="the job was interrupted", code=ErrorCode.CANCELLED))
            return 1
        case "says-nothing":
            return 0
        case "lies":
            say(JobEvent(status="success", model=name))
            return 3
        case "babbles":
            os.write(1, b"\xff\xfe no event\n{}\n[1]\n")
        case "never-ends-its-line":
            while True:
                os.write(1, b"x" * 65536)
        case "lingers":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say(JobEvent(status="success", model=name))
            time.sleep(3600)
        case "is-deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say(JobEvent(status="verifying"))
            time.sleep(3600)
        case "shouts":
            for _ in range(5000):
                os.write(2, b"x" * 1023 + b"\n")
        case "leaves-a-child":
            child = subprocess.Popen(["sleep", "60"])
            (models_dir / ".child").write_text(str(child.pid))
        case _:
            pass
    return None


def say(event: JobEvent) -> None:
    os.write(1, encode_event(event) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
