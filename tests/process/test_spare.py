"""A process that waits for a chat model: there if it can be of use, gone with the server."""

import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlx_serve_common.config import ChatConfig, Config
from tests.engine.tiny_chat import install_chat_model
from tests.process.gateways import Gateway
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process


@pytest.fixture
def chats(store: ModelStore) -> ModelStore:
    install_chat_model(store.models_dir, "qwen2")
    return store


def spare(gateway: Gateway) -> Any:
    return gateway.detail()["spare"]


def say(gateway: Gateway) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
    answer = gateway.ask("POST", "/v1/chat/completions", msgspec.json.encode(body))
    assert answer.status == 200, answer


def test_a_chat_model_takes_the_spare_and_another_follows(
    short_dir: Path, chats: ModelStore
) -> None:
    with Gateway(short_dir, chats) as gateway:
        until(lambda: spare(gateway) is not None)
        waiting = spare(gateway)
        assert waiting["memory_bytes"] > 0
        say(gateway)
        assert gateway.worker_pid("qwen2") == waiting["pid"]
        until(lambda: spare(gateway) is not None)
        assert spare(gateway)["pid"] != waiting["pid"]


def test_a_spare_that_died_is_no_harm(short_dir: Path, chats: ModelStore) -> None:
    with Gateway(short_dir, chats) as gateway:
        until(lambda: spare(gateway) is not None)
        os.kill(spare(gateway)["pid"], signal.SIGKILL)
        until(lambda: "the spare process ended" in gateway.log())
        say(gateway)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_the_spare_goes_with_the_server(
    short_dir: Path, chats: ModelStore, by: signal.Signals
) -> None:
    with Gateway(short_dir, chats) as gateway:
        until(lambda: spare(gateway) is not None)
        gateway.signal(by)
        gateway.wait()
        gateway.assert_nothing_left()


def test_it_can_be_turned_off(short_dir: Path, chats: ModelStore) -> None:
    with Gateway(short_dir, chats, Config(chat=ChatConfig(spare=False))) as gateway:
        say(gateway)
        assert spare(gateway) is None


def test_without_a_chat_model_there_is_none(short_dir: Path, store: ModelStore) -> None:
    store.add("a")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("a")
        assert spare(gateway) is None
