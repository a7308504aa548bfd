"""Model names in the shell, from the disk alone."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.process.cli.conftest import CommandLine

pytestmark = pytest.mark.process


def completed(cli: CommandLine, *words: str) -> list[str]:
    line = " ".join(("mlx-serve", *words))
    cli.env |= {
        "_MLX_SERVE_COMPLETE": "zsh_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words)),
    }
    lines = cli.run().stdout.splitlines()
    return lines[1::3]


def test_names(cli: CommandLine) -> None:
    for name in ("bge-small", "bge-small-8bit", "작은"):
        cli.install_fake(name)
    assert completed(cli, "show", "bge") == ["bge-small", "bge-small-8bit"]
    assert completed(cli, "rm", "bge-small", "bge") == ["bge-small-8bit"]
    for command in ("quantize", "copy", "verify", "remove"):
        assert completed(cli, command, "작") == ["작은"]
    assert completed(cli, "start", "--preload", "bge") == ["bge-small", "bge-small-8bit"]
    assert completed(cli, "show", ".") == []


def test_nothing_to_offer(cli: CommandLine) -> None:
    assert completed(cli, "show", "b") == []
    (cli.home / "config.yaml").write_text("bogus: 1\n")
    assert completed(cli, "show", "b") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script(cli: CommandLine, shell: str) -> None:
    told = cli.run("completion", shell)
    assert (told.returncode, told.stderr) == (0, "")
    for variable in ("_MLX_SERVE_COMPLETE", "_MLX_SERVE_CTL_COMPLETE", "_MLX_LLM_SERVER_COMPLETE"):
        assert f"{variable}={shell}_complete" in told.stdout


def test_another_shell(cli: CommandLine) -> None:
    told = cli.run("completion", "csh")
    assert told.returncode == 64
    assert "'bash', 'zsh', 'fish'" in told.stderr


def test_in_a_real_shell(cli: CommandLine, tmp_path: Path) -> None:
    cli.install_fake("bge-small")
    cli.install_fake("작은 모델")
    program = tmp_path / "mlx-serve"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(cli.command())} "$@"\n')
    program.chmod(0o755)
    typed = """
        eval "$(mlx-serve completion bash)"
        complete -p mlx-serve mlx-serve-ctl mlx-llm-server >/dev/null || exit 1
        COMP_WORDS=(mlx-serve show ''); COMP_CWORD=2
        _mlx_serve_completion mlx-serve
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    environment = cli.env | {"PATH": f"{tmp_path}{os.pathsep}{cli.env['PATH']}"}
    bash = subprocess.run(
        ["bash", "--norc", "-c", typed], env=environment, capture_output=True, text=True
    )
    assert (bash.stdout, bash.stderr) == ("bge-small\n작은 모델\n", "")
