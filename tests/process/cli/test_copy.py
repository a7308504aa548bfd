"""``copy``: a second name for an installed model."""

import msgspec
import pytest

from tests.process.cli.conftest import CommandLine, embed

pytestmark = pytest.mark.process


def test_copy(cli: CommandLine) -> None:
    cli.install_fake("tiny", source="org/tiny")
    copied = cli.run("copy", "ORG/tiny", "작은")
    assert (copied.returncode, copied.stdout) == (0, ""), copied
    assert copied.stderr == "copied tiny to 작은\n"
    told = cli.run("copy", "작은", "other", "--json")
    assert msgspec.json.decode(told.stdout) == {"source": "작은", "name": "other"}
    models = msgspec.json.decode(cli.run("list", "--json").stdout)["models"]
    assert [model["name"] for model in models] == ["other", "tiny", "작은"]
    assert {model["source"] for model in models} == {"org/tiny"}

    port = cli.start()
    for name in ("tiny", "작은", "org/tiny"):
        assert embed(port, name, "text")[0] == 200


def test_refusals(cli: CommandLine) -> None:
    cli.install_fake("tiny")
    for source, name, message in (
        ("absent", "new", "there is no model 'absent'"),
        ("tiny", "TINY", "a model named 'tiny' already"),
        ("tiny", "../x", "cannot be a model's name"),
    ):
        refused = cli.run("copy", source, name)
        assert refused.returncode == 1
        assert message in refused.stderr
    assert cli.run("copy", "tiny").returncode == 64
