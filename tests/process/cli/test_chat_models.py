"""A chat model through every command of the store, and what its gateway tells of it."""

import json
from pathlib import Path

import msgspec
import pytest

from tests.engine.tiny_chat import write_chat_repository
from tests.process.cli.conftest import CommandLine
from tests.process.gateways import Gateway
from tests.store import ModelStore

pytestmark = [pytest.mark.process, pytest.mark.engine]


def test_chat_model_in_the_store(cli: CommandLine, tmp_path: Path) -> None:
    source = write_chat_repository(tmp_path / "tiny")
    imported = cli.run("import", str(source), "--name", "tiny", "--type", "chat")
    assert imported.returncode == 0, imported
    (model,) = msgspec.json.decode(cli.run("list", "--json").stdout)["models"]
    assert (model["name"], model["type"]) == ("tiny", "chat")

    shown = cli.run("show", "tiny").stdout
    assert "chat" in shown and "yes, unless enable_thinking is false" in shown
    facts = json.loads(cli.run("show", "tiny", "--json").stdout)
    assert facts["capabilities"] == ["completion", "tools", "thinking"]

    verified = cli.run("verify", "tiny")
    assert verified.returncode == 0, verified
    quantized = cli.run("quantize", "tiny", "--bits", "8", "--group-size", "32")
    assert quantized.returncode == 0, quantized
    assert "the original's next token in" in quantized.stdout + quantized.stderr
    assert cli.run("copy", "tiny", "other").returncode == 0
    assert cli.run("remove", "tiny").returncode == 0
    (first, second) = msgspec.json.decode(cli.run("list", "--json").stdout)["models"]
    assert {first["name"], second["name"]} == {"other", "tiny-8bit"}
    assert cli.run("verify", "other").returncode == 0


def test_what_a_gateway_tells_of_it(tmp_path: Path) -> None:
    from tests.engine.tiny_chat import chat_template, install_chat_model

    store = ModelStore(tmp_path / "models")
    install_chat_model(store.models_dir, "tiny")
    with Gateway(tmp_path, store) as gateway:
        (card,) = gateway.ask("GET", "/v1/models").json["data"]
        assert (card["type"], card["max_tokens"]) == ("chat", 4096)
        (tag,) = gateway.ask("GET", "/api/tags").json["models"]
        assert tag["details"]["family"] == "qwen3"
        assert tag["details"]["parameter_size"] == "113.7K"
        shown = gateway.ask("POST", "/api/show", b'{"model": "tiny"}').json
        assert shown["capabilities"] == ["completion", "tools", "thinking"]
        assert shown["template"] == chat_template("qwen3")
        assert "top_k" in shown["parameters"]
        assert shown["model_info"]["qwen3.embedding_length"] == 64
