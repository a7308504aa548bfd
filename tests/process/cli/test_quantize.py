"""``quantize`` from the command line, with a real model."""

import json
from pathlib import Path

import pytest

from tests.process.cli.conftest import CommandLine, embed

pytestmark = [pytest.mark.process, pytest.mark.engine]


@pytest.fixture
def model(cli: CommandLine, tmp_path: Path) -> str:
    from tests.engine.tiny import LAYOUTS, build

    source = build(LAYOUTS["cls"], tmp_path / "tiny")
    imported = cli.run("import", str(source), "--name", "tiny")
    assert imported.returncode == 0, imported
    return "tiny"


def test_quantize(cli: CommandLine, model: str) -> None:
    made = cli.run("quantize", model, "--bits", "8", "--group-size", "32")
    assert made.returncode == 0, made
    rows = dict(line.split(maxsplit=1) for line in made.stdout.splitlines())
    assert rows["name"] == "tiny-8bit"
    assert "cosine to the original 1.0000 on average" in rows["quality"]
    assert "success tiny-8bit" in made.stderr.splitlines()
    shown = cli.run("show", "tiny-8bit").stdout
    assert rows["quality"] in shown
    assert "cls pooling, normalize" in shown
    assert cli.run("list").stdout.splitlines()[2].split()[:5][-1] == "8bit"
    port = cli.start()
    assert embed(port, "tiny-8bit", "text")[0] == 200

    four = cli.run("quantize", "tiny", "--bits", "4", "--group-size", "32", "--json", "--name", "x")
    assert four.returncode == 0
    last = json.loads(four.stdout.splitlines()[-1])
    assert (last["status"], last["model"]) == ("success", "x")
    assert last["quantized_size"] < last["original_size"]
    assert 0.5 < last["quality"]["mean_cosine"] < 1


def test_four_bits_tell_their_cost(cli: CommandLine, model: str) -> None:
    four = cli.run("quantize", model, "--mode", "mxfp4")
    assert four.returncode == 0
    assert "8 bits keep far more" in four.stderr


def test_refusals(cli: CommandLine, model: str) -> None:
    for arguments, code, message in (
        (("tiny",), 64, "--bits"),
        (("tiny", "--bits", "5"), 64, "5"),
        (("absent", "--bits", "8"), 1, "there is no model"),
        (("tiny", "--bits", "8"), 1, "smaller group size"),
        (("tiny", "--bits", "8", "--mode", "mxfp4"), 1, "always has 4 bits"),
        (("tiny", "--bits", "8", "--group-size", "32", "--name", "TINY"), 1, "--name"),
        (("tiny", "--bits", "8", "--name", "../x"), 1, "cannot be a model's name"),
    ):
        refused = cli.run("quantize", *arguments)
        assert refused.returncode == code, refused
        assert message in refused.stderr
