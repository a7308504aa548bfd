"""What we promise, by what it is kept, and which test would notice if it were not.

``scripts/faults --promises [NUMBER...]`` shows that it would: for each mechanism it takes that one
away in a copy of this tree and sees the named test fail, which passes with it. The exit code is 1
if a test has not noticed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import psutil

ROOT = Path(__file__).resolve().parents[2]
_LIMIT_S = 600
_FAILED, _PASSED = 1, 0
_COPIED = (
    "mlx_serve_common",
    "mlx_serve_gateway",
    "mlx_serve_worker",
    "tests",
    "pyproject.toml",
    "README.md",
)


@dataclass(frozen=True)
class Mechanism:
    name: str
    file: str
    text: str
    without: str
    """What stands in the file in place of the text when the mechanism is taken away."""
    test: str


PROMISES: dict[str, tuple[Mechanism, ...]] = {
    "1. Killing a worker at any time loses no embedding or rerank request that is in its time": (
        Mechanism(
            "what a dead worker held is sent again",
            "mlx_serve_gateway/batcher.py",
            "if call.is_repeatable and not is_killer:",
            "if False:",
            "tests/faults/test_workers.py::test_a_kill_in_full_flight_costs_nobody_an_answer",
        ),
        Mechanism(
            "a kill from outside accuses nobody",
            "mlx_serve_gateway/lane.py",
            "is_murder = failure is Failure.STOPPED or exit_code == -signal.SIGKILL",
            "is_murder = False",
            "tests/unit/gateway/test_pool_answers.py::test_nobody_is_suspected_of_what_was_done_from_outside",
        ),
    ),
    "2. One bad request costs two workers at most, and nobody else an answer": (
        Mechanism(
            "an input that has killed is refused",
            "mlx_serve_gateway/lane.py",
            "self.quarantine.add(call.fingerprint(index), now)",
            "pass",
            "tests/faults/test_workers.py::test_a_poison_costs_two_workers_however_often_it_is_asked",
        ),
        Mechanism(
            "who may have killed is tried alone",
            "mlx_serve_gateway/batcher.py",
            "self._send(Priority.BULK, [self._alone.popleft()])",
            "self._send(Priority.BULK, [self._alone.popleft() for _ in list(self._alone)])",
            "tests/faults/test_workers.py::test_poison_in_company",
        ),
    ),
    "3. Overload is answered 429 with Retry-After within 50 ms, never with a reset or silence": (
        Mechanism(
            "a queue has an end",
            "mlx_serve_gateway/batcher.py",
            "if queued and (\n            queued + call.size",
            "if False and (\n            queued + call.size",
            "tests/faults/test_overload.py::test_512_at_once_on_a_queue_of_64",
        ),
        Mechanism(
            "one host has a share of the requests",
            "mlx_serve_gateway/http/in_flight.py",
            "return peer != _HERE and",
            "return False and",
            "tests/process/http/test_crowds.py::test_one_peer_cannot_have_everything",
        ),
    ),
    "4. Whatever kills the gateway, nothing of ours runs a second later": (
        Mechanism(
            "the sentinel kills what is left",
            "mlx_serve_gateway/sentinel.py",
            '[ -z "$pids" ] || kill -9 $pids',
            ":",
            "tests/process/test_orphans.py::test_the_sentinel_alone_is_enough",
        ),
        Mechanism(
            "the kernel kills a worker with its parent",
            "mlx_serve_worker/lifeline.py",
            'if sys.platform == "linux":',
            "if False:",
            "tests/process/test_orphans.py::test_the_kernel_alone_is_enough",
        ),
    ),
    "5. A model never runs its own code, and is verified byte for byte before it is listed": (
        Mechanism(
            "a repository that names code is refused",
            "mlx_serve_worker/repository.py",
            "if key := _code_key(value):",
            "if key := None:",
            "tests/process/pull/test_pull_hostile.py::test_code_is_found_however_deep_it_is_named",
        ),
        Mechanism(
            "what arrives is held against its hash",
            "mlx_serve_worker/download.py",
            "return self.is_complete and self._hash.hexdigest() == self._file.digest.hex",
            "return self.is_complete",
            "tests/process/pull/test_pull_faults.py::test_what_is_not_the_file_is_never_installed",
        ),
    ),
    "6. Another host can only infer, and a web page can do nothing": (
        Mechanism(
            "who is on this machine is judged by the socket",
            "mlx_serve_gateway/http/peer.py",
            "if not client or not is_loopback_address(client[0]):",
            "if not client:",
            "tests/unit/gateway/http/test_access.py::test_these_are_for_the_owner",
        ),
        Mechanism(
            "a proxy's mark makes its clients strangers",
            "mlx_serve_gateway/http/peer.py",
            "    return not any(",
            "    return True or not any(",
            "tests/process/ollama/test_access.py::test_strangers_may_not_manage_and_owners_may",
        ),
        Mechanism(
            "Host is judged",
            "mlx_serve_gateway/http/browser_rules.py",
            "            self._check_host(scope)\n",
            "",
            "tests/process/http/test_every_endpoint.py::test_a_web_page_can_do_nothing",
        ),
        Mechanism(
            "Origin and Sec-Fetch-Site are judged",
            "mlx_serve_gateway/http/browser_rules.py",
            "origin = self._allowed_origin(headers)",
            "origin = None",
            "tests/process/http/test_every_endpoint.py::test_a_web_page_can_do_nothing",
        ),
    ),
    "7. A store starts whatever killed the process that wrote it, at whatever moment": (
        Mechanism(
            "what is not whole is out of sight",
            "mlx_serve_common/store.py",
            '_STAGING = ".staging"',
            '_STAGING = "staging"',
            "tests/process/pull/test_pull_kill.py::test_death_at_any_point",
        ),
        Mechanism(
            "what is published is on the disk",
            "mlx_serve_common/store.py",
            "        sync_tree(staged)\n        target",
            "        target",
            "tests/unit/common/test_store.py::test_a_model_is_on_the_disk_before_it_has_its_name",
        ),
    ),
    "8. A 200 never carries NaN, null, or another's result": (
        Mechanism(
            "a row that is not finite is no vector",
            "mlx_serve_worker/rendering.py",
            "render(row, encoding) if is_finite else None",
            "render(row, encoding)",
            "tests/engine/test_encoder.py::test_row_that_is_not_finite_fails_alone",
        ),
        Mechanism(
            "a result goes to the item that it names",
            "mlx_serve_gateway/lane.py",
            "call.put(result, positions)",
            "call.put(result, [0 for _ in positions])",
            "tests/process/test_gateway_serving.py::test_every_caller_gets_its_own_vector",
        ),
    ),
}


@contextmanager
def _copy() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, root)
        # The starter model and what else was set up.
        (root / ".venv").symlink_to(ROOT / ".venv")
        yield root


def _outcome(root: Path, test: str) -> int:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        test,
    ]
    env = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=root, env=env, stdout=subprocess.DEVNULL, timeout=_LIMIT_S, check=False
    )
    return done.returncode


def _notices(root: Path, mechanism: Mechanism) -> str | None:
    """What is wrong, if anything."""
    file = root / mechanism.file
    whole = file.read_text("utf-8")
    if whole.count(mechanism.text) != 1:
        return f"{mechanism.file} has changed: what is to be taken away is there not exactly once"
    if _outcome(root, mechanism.test) != _PASSED:
        return "the test fails with it"
    file.write_text(whole.replace(mechanism.text, mechanism.without), "utf-8")
    try:
        if _outcome(root, mechanism.test) != _FAILED:
            return "the test does not fail without it"
    finally:
        file.write_text(whole, "utf-8")
        _end_what_is_left(root)
    return None


def _end_what_is_left(root: Path) -> None:
    """Without some mechanisms processes stay: that was to be shown."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(root) in process.environ().get("PYTHONPATH", ""):
                process.kill()


def main() -> int:
    wanted = sys.argv[1:]
    failures = 0
    with _copy() as root:
        for promise, mechanisms in PROMISES.items():
            if wanted and promise.partition(".")[0] not in wanted:
                continue
            print(promise)  # noqa: T201
            for mechanism in mechanisms:
                started = monotonic()
                wrong = _notices(root, mechanism)
                failures += wrong is not None
                told = wrong or "noticed"
                print(  # noqa: T201
                    f"   {mechanism.name}: {told} ({monotonic() - started:.0f} s)\n"
                    f"      {mechanism.test}",
                    flush=True,
                )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
