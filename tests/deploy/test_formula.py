"""The Homebrew formula: loaded by a stub of Homebrew's language, and filled in for a release."""

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlx_serve_gateway.cli.main import mlx_serve

ROOT = Path(__file__).parents[2]
FORMULA = ROOT / "deploy/homebrew/Formula/mlx-serve.rb"
STUB = Path(__file__).with_name("formula_stub.rb")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

needs_ruby = pytest.mark.skipif(shutil.which("ruby") is None, reason="ruby is not installed here")


def ruby(*arguments: str) -> str:
    told = subprocess.run(["ruby", *arguments], capture_output=True, text=True, timeout=30)
    assert told.returncode == 0, told.stderr
    return told.stdout


@pytest.fixture(scope="module")
def loaded() -> Any:
    assert ruby("-c", str(FORMULA)) == "Syntax OK\n"
    return json.loads(ruby(str(STUB), str(FORMULA)))


@pytest.fixture
def formula() -> ModuleType:
    spec = importlib.util.spec_from_file_location("formula", ROOT / "scripts/formula.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_ruby
def test_what_it_installs(loaded: Any) -> None:
    libexec = "/opt/homebrew/Cellar/mlx-serve/0.1.0/libexec"
    python, *installs = [line for line in loaded["ran"] if line[0] == "uv"]
    assert python == [
        "uv",
        "venv",
        "--python",
        "/opt/homebrew/opt/python@3.13/bin/python3.13",
        libexec,
    ]
    assert all(f"{libexec}/bin/python" in line and "--no-deps" in line for line in installs)
    # Every package by its hashes and none built; then ours, with what the lock has brought.
    assert installs[0][-5:] == [
        *("--require-hashes", "--only-binary", ":all:"),
        "-r",
        "requirements.lock",
    ]
    assert installs[1][-2:] == ["--no-build-isolation", "."]
    links = [line[1].rpartition("/")[2] for line in loaded["ran"] if line[0] == "symlink"]
    assert links == list(PROJECT["scripts"])
    assert [line[2] for line in loaded["ran"] if line[0] == "completions"] == ["click"] * len(links)
    assert loaded["env"] == "never"
    assert loaded["said"]["preserve_rpath"] is True
    assert loaded["said"]["network"] == ["build"]
    assert loaded["said"]["license"] == PROJECT["license"]
    assert loaded["tested"] is True


@needs_ruby
def test_its_service(loaded: Any) -> None:
    service = loaded["service"]
    program, command, *options = service["run"]
    assert program == "/opt/homebrew/opt/mlx-serve/bin/mlx-serve"
    known = {flag for option in mlx_serve.commands[command].params for flag in option.opts}
    assert {option.partition("=")[0] for option in options} <= known
    assert service["keep_alive"] == {"successful_exit": False}
    assert service["process_type"] == "interactive"
    assert service["log_path"] == service["error_log_path"] == "/opt/homebrew/var/log/mlx-serve.log"
    assert f"--log-file={service['log_path']}" in options


def test_it_is_of_this_version_and_takes_the_lock_for_its_list_of_packages() -> None:
    text = FORMULA.read_text()
    (url,) = re.findall(r'^  url "(.*)"$', text, re.MULTILINE)
    assert url.endswith(f"/v{PROJECT['version']}/mlx_serve_gateway-{PROJECT['version']}.tar.gz")
    assert "\n  resource " not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "/requirements.lock" in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]


def test_a_release_fills_it_in(formula: ModuleType, tmp_path: Path) -> None:
    archive = tmp_path / "mlx_serve_gateway-2.3.4.tar.gz"
    archive.write_bytes(b"source")
    text = formula.filled(FORMULA.read_text(), "me/tap", "2.3.4", archive)
    assert '  homepage "https://github.com/me/tap"\n' in text
    assert f'  url "https://github.com/me/tap/releases/download/v2.3.4/{archive.name}"\n' in text
    assert f'  sha256 "{hashlib.sha256(b"source").hexdigest()}"\n' in text
    assert "OWNER" not in text
    without = "\n".join(line for line in text.splitlines() if "sha256" not in line)
    with pytest.raises(SystemExit, match="0 lines for sha256"):
        formula.filled(without, "me/tap", "2.3.4", archive)
