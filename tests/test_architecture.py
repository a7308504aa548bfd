"""Who may import what, and what may stand nowhere: in the source and in a running process."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("mlx_serve_common", "mlx_serve_gateway", "mlx_serve_worker")

ML_STACK = {
    "huggingface_hub", "llguidance", "mlx", "mlx_embeddings", "mlx_lm", "mlx_vlm", "numpy",
    "orjson", "tiktoken", "tokenizers", "torch", "transformers",
}  # fmt: skip
IMPORT_BUDGET = 7.5
"""Of the measure: 0.25 to 0.5 s, as fast as the machine is."""

_LOADED = """
import sys, time
began = time.process_time()
import asyncio, email.message, http.client, inspect, logging.config, ssl
measure_s = time.process_time() - began
import {modules}
took_s = time.process_time() - began
import json
roots = sorted({{name.partition(".")[0] for name in sys.modules}})
print(json.dumps({{"share": took_s / measure_s, "roots": roots}}))
"""


def loaded(*modules: str) -> tuple[set[str], float]:
    """What a fresh interpreter has loaded after these imports, and how often the measure they took.

    Both in time that was computed, or the test would fail because the machine is slow or crowded.
    """
    result = subprocess.run(
        [sys.executable, "-c", _LOADED.format(modules=", ".join(modules))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    return set(told["roots"]), told["share"]


# --- imports -------------------------------------------------------------------------------------


def test_the_import_contracts_are_kept() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, timeout=50)

    assert result.returncode == 0, result.stdout


def test_the_gateway_loads_nothing_of_the_ml_stack() -> None:
    roots, _ = loaded("mlx_serve_gateway.server", "mlx_serve_gateway.cli.main")

    assert roots & ML_STACK == set()
    # Neither the worker nor what only a traced server needs.
    assert roots & {"mlx_serve_worker", "opentelemetry", "requests", "prometheus_client"} == set()


@pytest.mark.parametrize("command", ["ctl", "llm", "main"])
def test_a_command_loads_no_server_before_it_needs_one(command: str) -> None:
    roots, _ = loaded(f"mlx_serve_gateway.cli.{command}")

    assert roots & (ML_STACK | {"hypercorn", "starlette", "zmq"}) == set()


def test_the_gateway_is_imported_in_time() -> None:
    modules = ("mlx_serve_gateway.server", "mlx_serve_gateway.cli.main")
    assert min(loaded(*modules)[1] for _ in range(3)) <= IMPORT_BUDGET


def test_the_workers_core_needs_no_mlx() -> None:
    core = ("backend", "compute", "lifeline", "loop", "planner", "preparation", "backends.fake")
    roots, _ = loaded(*(f"mlx_serve_worker.{module}" for module in core))

    assert roots & ML_STACK == set()
    assert "mlx_serve_gateway" not in roots


def test_what_both_share_is_light() -> None:
    modules = sorted(path.stem for path in (ROOT / "mlx_serve_common").glob("[a-z]*.py"))
    roots, _ = loaded(*(f"mlx_serve_common.{module}" for module in modules))

    assert roots & (ML_STACK | {"click", "hypercorn", "psutil", "starlette", "zmq"}) == set()
    assert roots & {"mlx_serve_gateway", "mlx_serve_worker"} == set()


# --- what may stand nowhere ----------------------------------------------------------------------

FORBIDDEN = {
    "pickle": "wire and disk formats are msgspec",
    "recv_pyobj": "it unpickles",
    "send_pyobj": "it pickles",
    "shell=True": "arguments are lists",
    r"yaml\.load\(": "it makes objects; use safe_load",
    "tcp://": "workers are reached through ipc only",
    r"jinja2\.Template\b": "templates of strangers need the sandbox",
    "trust_remote_code=True": "it runs a stranger's code",
    r"(?<![.\w])(eval|exec)\(": "it runs what it reads",
    r"os\.fork\(": "a fork cannot use Metal",
}


def sources() -> list[Path]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(found) > 50
    return found


@pytest.mark.parametrize(("pattern", "reason"), FORBIDDEN.items())
def test_what_is_dangerous_stands_nowhere(pattern: str, reason: str) -> None:
    search = re.compile(pattern)
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if search.search(line)
    ]
    assert hits == [], reason


# Written in pieces, so that this file does not find itself.
MACHINE_PATHS = ("/" + "work/", "/" + "root/", "/" + "home/[a-z]+/", "/" + "Users/[a-z]+/")


def test_no_tracked_file_names_a_machine() -> None:
    """Paths of the machine on which something was written say nothing on any other."""
    found = subprocess.run(
        ["git", "grep", "-nIE", "|".join(MACHINE_PATHS), "--", ".", ":!*.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    if found.returncode == 128:
        pytest.skip("not a git checkout")
    hits = [line for line in found.stdout.splitlines() if not _is_example(line)]
    assert hits == []


def _is_example(line: str) -> bool:
    """Tests and documentation may speak of somebody's home."""
    return re.search("/home/(me|you|user)|/Users/(me|you|user)", line) is not None


def test_no_lock_file_names_a_package_host() -> None:
    for lock in ROOT.glob("*.lock"):
        assert "://" not in lock.read_text(), lock.name
