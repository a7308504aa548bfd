"""Model names in the shell, from the disk alone."""

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
    assert completed(cli, "show", ".") == []


def test_nothing_to_offer(cli: CommandLine) -> None:
    assert completed(cli, "show", "b") == []
    (cli.home / "config.yaml").write_text("bogus: 1\n")
    assert completed(cli, "show", "b") == []
