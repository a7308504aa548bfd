"""Keeping, removing and copying models while requests use them."""

import asyncio
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from mlx_serve_worker.backends.fake import vector
from tests.process.clients import embed_all
from tests.process.gateways import LIMIT_S, Answer, Gateway
from tests.process.ollama.asking import Stream, ask, go_on, installed, loaded
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process

# --- keep_alive ----------------------------------------------------------------------------------


def test_keep_alive_decides_when_a_model_leaves(
    gateway: Gateway, store: ModelStore, name: str
) -> None:
    store.add(name)
    assert ask(gateway, "POST", "/api/embed", model=name, input="a", keep_alive="1h").status == 200
    hour = loaded(gateway)[name]["expires_at"]
    assert gateway.embed(name, "a", keep_alive=-1).status == 200
    assert loaded(gateway)[name]["expires_at"] > hour

    worker = psutil.Process(gateway.worker_pid(name))
    assert gateway.embed(name, ["a", "b"], keep_alive=0).status == 200
    worker.wait(5)
    until(lambda: name not in loaded(gateway))


def test_an_empty_request_loads_and_unloads(gateway: Gateway, store: ModelStore, name: str) -> None:
    store.add(name, load_s=0.3)
    answer = ask(gateway, "POST", "/api/embed", model=name)
    assert answer.json["embeddings"] == []
    assert answer.json["load_duration"] >= 300_000_000
    assert loaded(gateway)[name]["state"] == "ready"
    assert ask(gateway, "POST", "/api/embed", model=name, keep_alive="0s").status == 200
    until(lambda: name not in loaded(gateway))


# --- removing and copying ------------------------------------------------------------------------


def test_a_model_in_use_is_removed_after_its_requests(
    gateway: Gateway, store: ModelStore, name: str
) -> None:
    store.add(name, step_s=0.02)
    texts = [f"text {number}" for number in range(32)]
    answers: list[Answer] = []
    asking = threading.Thread(
        target=lambda: answers.extend(asyncio.run(embed_all(gateway, name, texts)))
    )
    asking.start()
    until(lambda: loaded(gateway).get(name, {}).get("state") == "ready")
    worker = psutil.Process(gateway.worker_pid(name))
    answer = ask(gateway, "DELETE", "/api/delete", model=name)
    asking.join(LIMIT_S)

    assert answer.status == 200
    # Some may have come while it was being removed, or after.
    assert {answer.status for answer in answers} - {404, 409} == {200}
    for text, each in zip(texts, answers, strict=True):
        if each.status == 200:
            assert each.vectors() == [vector(text)]
    assert not worker.is_running()
    assert gateway.embed(name, "a").status == 404
    assert ask(gateway, "DELETE", "/api/delete", model=name).status == 404
    assert not (store.models_dir / name).exists()
    assert list((store.models_dir / ".staging").glob("*.old")) == []


@contextmanager
def loading(gateway: Gateway, store: ModelStore, name: str) -> Iterator[None]:
    """A request waits for its model to be loaded; it is answered in the end."""
    store.add(name, load_s=0.5)
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(gateway.embed(name, "a")))
    asking.start()
    until(lambda: loaded(gateway).get(name, {}).get("state") == "loading")
    yield
    asking.join(LIMIT_S)
    assert answers[0].vectors() == [vector("a")]


def test_a_model_that_is_loading_for_somebody_serves_that_first(
    gateway: Gateway, store: ModelStore, name: str
) -> None:
    with loading(gateway, store, name):
        assert ask(gateway, "DELETE", "/api/delete", model=name).status == 200


def test_who_leaves_does_not_stop_a_removal(gateway: Gateway, store: ModelStore, name: str) -> None:
    url = f"http://127.0.0.1:{gateway.port}/api/delete"
    with loading(gateway, store, name), pytest.raises(httpx.ReadTimeout):
        httpx.request("DELETE", url, json={"model": name}, timeout=0.1)

    until(lambda: not (store.models_dir / name).exists())


def test_what_is_being_pulled_cannot_be_removed_or_copied_over(
    gateway: Gateway, store: ModelStore, name: str
) -> None:
    store.add(f"{name}-source")
    store.add(name, source=f"org/{name}")
    stream = Stream(gateway, model=f"org/{name}")
    stream.line()
    for answer in (
        ask(gateway, "DELETE", "/api/delete", model=name),
        ask(gateway, "POST", "/api/copy", source=f"{name}-source", destination=name),
    ):
        assert (answer.status, answer.json["code"]) == (409, "model_busy")
    go_on(store, name)
    stream.rest()
    assert ask(gateway, "DELETE", "/api/delete", model=name).status == 200


def test_a_copy_outlives_its_original(gateway: Gateway, store: ModelStore, name: str) -> None:
    store.add(name, source=f"org/{name}")
    gateway.assert_serves(name)
    copy = f"{name}-copy"
    answer = ask(gateway, "POST", "/api/copy", source=f"org/{name}", destination=f"{copy}:latest")
    assert (answer.status, answer.body) == (200, b"")
    assert ask(gateway, "DELETE", "/api/delete", name=name).status == 200
    gateway.assert_serves(copy)

    for source, destination, status in (
        ("absent", "x", 404),
        (copy, copy.upper(), 400),
        (copy, "../x", 400),
        (copy, "a/b", 400),
        (copy, "", 400),
        (copy, None, 400),
    ):
        answer = ask(gateway, "POST", "/api/copy", source=source, destination=destination)
        assert answer.status == status


def test_a_damaged_model_can_be_removed_and_hides_no_other(
    gateway: Gateway, store: ModelStore, name: str
) -> None:
    store.add(name)
    broken = f"{name}-broken"
    store.add_raw(broken, b"{")
    assert ask(gateway, "POST", "/api/embed", model=broken, input="a").status == 404
    assert ask(gateway, "DELETE", "/api/delete", model=broken).status == 200

    assert not (store.models_dir / broken).exists()
    gateway.assert_serves(name)


def test_what_was_removed_behind_our_back_is_not_found(
    gateway: Gateway, store: ModelStore, name: str
) -> None:
    folder = store.add(name).path
    gateway.assert_serves(name)
    shutil.rmtree(folder)

    assert ask(gateway, "DELETE", "/api/delete", model=name).status == 404
    assert name not in installed(gateway)


def test_names_that_would_climb_are_only_unknown(gateway: Gateway) -> None:
    requests = (
        ("DELETE", "/api/delete"),
        ("POST", "/api/show"),
        ("POST", "/api/pull"),
        ("POST", "/api/embed"),
    )
    for name in (
        "../../etc", "..%2f", "a/../../b", "/abs", "C:\\x", "a\0b", "a/b/c", "-rf", ".", "x" * 300,
    ):  # fmt: skip
        for method, path in requests:
            assert ask(gateway, method, path, model=name).status in (400, 404)
