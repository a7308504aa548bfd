"""The frame of every command: light, honest about its exit code, and never a traceback."""

import platform
import subprocess
import sys

import pytest

from mlx_serve_common import VERSION
from tests.process.cli.conftest import CommandLine

pytestmark = pytest.mark.process

PROGRAMS = ("main", "ctl", "llm")
IMPORT_S = 0.25
HEAVY = (
    "hypercorn starlette zmq uvloop rich msgspec psutil yaml "
    "mlx mlx_lm mlx_embeddings transformers tokenizers huggingface_hub numpy"
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_importing_a_program_is_cheap(cli: CommandLine, program: str) -> None:
    script = f"import sys, mlx_serve_gateway.cli.{program} as _; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], env=cli.env, capture_output=True, text=True, check=True
    )
    roots = {name.partition(".")[0] for name in loaded.stdout.split()}
    assert roots & set(HEAVY.split()) == set()
    assert "mlx_serve_worker" not in roots


@pytest.mark.parametrize("program", PROGRAMS)
def test_importing_a_program_is_quick(cli: CommandLine, program: str) -> None:
    """Measured by what it computes, or other work on the machine would make it fail."""
    script = (
        "import time; started = time.process_time(); "
        f"import mlx_serve_gateway.cli.{program}; print(time.process_time() - started)"
    )

    def took_s() -> float:
        command = [sys.executable, "-c", script]
        told = subprocess.run(command, env=cli.env, capture_output=True, check=True)
        return float(told.stdout)

    assert min(took_s() for _ in range(3)) <= IMPORT_S


@pytest.mark.parametrize("program", PROGRAMS)
def test_version(cli: CommandLine, program: str) -> None:
    told = cli.run("--version", program=program)
    assert told.returncode == 0
    assert told.stdout.startswith(
        f"mlx-serve-gateway {VERSION} (Python {platform.python_version()}, /"
    )
    assert told.stdout.endswith("mlx_serve_gateway)\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("-h",), 0),
        (("start", "--help"), 0),
        ((), 64),
        (("bogus",), 64),
        (("start", "extra"), 64),
        (("stop", "--timeout", "0"), 64),
    ],
)
def test_usage(cli: CommandLine, arguments: tuple[str, ...], code: int) -> None:
    told = cli.run(*arguments)
    assert told.returncode == code
    assert (told.stdout if code == 0 else told.stderr).startswith("Usage: mlx-serve")


def test_names_that_no_encoding_holds(cli: CommandLine) -> None:
    cli.install_fake("한국어")
    cli.env["PYTHONIOENCODING"] = "ascii"
    listed = cli.run("list")
    assert listed.returncode == 0
    assert "\\ud55c\\uad6d\\uc5b4" in listed.stdout


def test_an_internal_error_says_so(cli: CommandLine) -> None:
    script = """
import click
from mlx_serve_gateway.cli.entry import run

@click.command()
def broken():
    raise RuntimeError("a bug")

run(broken, "broken")
"""
    told = subprocess.run(
        [sys.executable, "-c", script], env=cli.env, capture_output=True, text=True
    )
    assert told.returncode == 70
    assert told.stdout == ""
    assert "RuntimeError: a bug" in told.stderr
    assert told.stderr.splitlines()[-1].startswith("broken: internal error")


def test_the_llm_server_is_the_same_daemon(cli: CommandLine, free_port: int) -> None:
    told = cli.run("--help", program="llm")
    assert "9044" in told.stdout
    assert "Qwen3-8B-4bit" in told.stdout
    port = str(free_port)
    started = cli.run("--port", port, program="llm")
    assert started.returncode == 0, started
    assert cli.run("status", "--port", port).returncode == 0
