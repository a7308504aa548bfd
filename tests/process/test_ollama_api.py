"""Ollama's endpoints over real processes: pulling, keeping, removing, and who may."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import msgspec
import psutil
import pytest

from mlx_serve_common.config import Config, ModelsConfig, ServerConfig
from mlx_serve_common.models import MANIFEST_FILE
from mlx_serve_worker.backends.fake import vector
from tests.process.clients import embed_all
from tests.process.gateways import LIMIT_S, Answer, Gateway
from tests.process.stand_in_job import DIGEST, TOTAL
from tests.store import ModelStore
from tests.waiting import until

pytestmark = pytest.mark.process

KEY = "correct-horse"
STRANGER = {"X-Forwarded-For": "203.0.113.9"}
OWNER = STRANGER | {"Authorization": f"Bearer {KEY}"}


@contextmanager
def serving(home: Path, store: ModelStore, **models: Any) -> Iterator[Gateway]:
    config = Config(server=ServerConfig(admin_key=KEY), models=ModelsConfig(**models))
    stand_in = "tests.process.stand_in_job"
    with Gateway(home, store, config, STAND_IN_JOB=stand_in) as gateway:
        yield gateway


@pytest.fixture
def gateway(short_dir: Path, store: ModelStore) -> Iterator[Gateway]:
    with serving(short_dir, store) as gateway:
        yield gateway


def ask(
    gateway: Gateway, method: str, path: str, headers: dict[str, str] | None = None, **body: Any
) -> Answer:
    return gateway.ask(method, path, msgspec.json.encode(body) if body else None, headers)


def loaded(gateway: Gateway) -> dict[str, Any]:
    return {model["name"]: model for model in ask(gateway, "GET", "/api/ps").json["models"]}


def starts(store: ModelStore) -> list[str]:
    path = store.models_dir / ".starts"
    return path.read_text().splitlines() if path.exists() else []


class Stream:
    """A pull that is listened to line by line."""

    def __init__(self, gateway: Gateway, **body: Any) -> None:
        self._client = httpx.Client(timeout=LIMIT_S)
        request = self._client.build_request(
            "POST", f"http://127.0.0.1:{gateway.port}/api/pull", json=body
        )
        self._response = self._client.send(request, stream=True)
        assert self._response.status_code == 200
        self._lines = self._response.iter_lines()

    def line(self) -> dict[str, Any]:
        return dict(msgspec.json.decode(next(self._lines)))

    def rest(self) -> list[dict[str, Any]]:
        lines = [msgspec.json.decode(line) for line in self._lines]
        self.leave()
        return lines

    def leave(self) -> None:
        self._response.close()
        self._client.close()


def go_on(store: ModelStore) -> None:
    (store.models_dir / ".go").touch()


# --- pulling -------------------------------------------------------------------------------------


def test_a_pull_is_told_as_it_goes_and_the_model_serves(
    gateway: Gateway, store: ModelStore
) -> None:
    stream = Stream(gateway, model="org/waits")
    told = [stream.line() for _ in range(2)]
    assert told[0] == {"status": "pulling manifest"}
    assert told[1].items() >= {"digest": DIGEST, "total": TOTAL}.items()
    (job,) = ask(gateway, "GET", "/api/jobs").json["jobs"]
    assert (job["kind"], job["model"], job["state"]) == ("pull", "waits", "running")
    go_on(store)

    assert stream.rest()[-1] == {"status": "success"}
    gateway.assert_serves("waits")
    (job,) = ask(gateway, "GET", "/api/jobs").json["jobs"]
    assert job["state"] == "succeeded"


def test_listeners_join_leave_and_share_one_download(gateway: Gateway, store: ModelStore) -> None:
    leaving, staying = (Stream(gateway, model="org/waits") for _ in range(2))
    assert leaving.line() == {"status": "pulling manifest"}
    leaving.leave()
    late = Stream(gateway, name="org/waits", stream=True)
    assert late.line() == {"status": "pulling manifest"}
    go_on(store)

    for stream in (staying, late):
        assert stream.rest()[-1] == {"status": "success"}
    assert len(starts(store)) == 1


def test_the_last_listener_leaves_and_the_download_goes_on(
    gateway: Gateway, store: ModelStore
) -> None:
    stream = Stream(gateway, model="org/waits")
    stream.line()
    stream.leave()
    until(lambda: gateway.ask("GET", "/health/detail").json["in_flight"] == 0)
    go_on(store)
    until(lambda: [m["name"] for m in ask(gateway, "GET", "/api/tags").json["models"]] == ["waits"])


def test_a_pull_without_a_stream(gateway: Gateway) -> None:
    answer = ask(gateway, "POST", "/api/pull", model="org/tiny", stream=False, insecure=False)
    assert (answer.status, answer.json) == (200, {"status": "success"})

    answer = ask(gateway, "POST", "/api/pull", model="org/fails", stream=False)
    assert (answer.status, answer.json["error"]) == (404, "there is no such repository")


@pytest.mark.parametrize("name", ["fails", "dies", "says-nothing", "lies"])
def test_however_a_pull_fails_its_stream_ends_with_an_error(gateway: Gateway, name: str) -> None:
    lines = Stream(gateway, model=f"org/{name}").rest()

    assert isinstance(lines[-1]["error"], str)
    assert all("error" not in line for line in lines[:-1])
    assert ask(gateway, "GET", "/api/tags").json["models"] == []


def test_a_stop_ends_the_download_and_tells_its_listener(
    short_dir: Path, store: ModelStore
) -> None:
    with serving(short_dir, store) as gateway:
        stream = Stream(gateway, model="org/waits")
        stream.line()
        gateway.signal(signal.SIGTERM)
        assert stream.rest()[-1]["code"] == "shutting_down"
        assert gateway.wait() == 0


def test_a_killed_gateway_takes_its_jobs_along(short_dir: Path, store: ModelStore) -> None:
    with serving(short_dir, store) as gateway:
        stream = Stream(gateway, model="org/is-deaf")
        stream.line()
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        stream.leave()


# --- on request ----------------------------------------------------------------------------------


def test_a_request_fetches_what_is_not_here_once_for_everybody(
    gateway: Gateway, store: ModelStore
) -> None:
    answers: list[Answer] = []
    asking = threading.Thread(
        target=lambda: answers.extend(
            asyncio.run(embed_all(gateway, "org/waits", ["a", "b", "c", "d"]))
        )
    )
    asking.start()
    stream = Stream(gateway, model="org/waits")
    until(lambda: gateway.ask("GET", "/api/jobs").json["jobs"])
    go_on(store)
    asking.join(LIMIT_S)

    assert stream.rest()[-1] == {"status": "success"}
    assert [answer.vectors() for answer in answers] == [[vector(text)] for text in "abcd"]
    assert len(starts(store)) == 1


def test_a_slow_download_is_told_and_goes_on(short_dir: Path, store: ModelStore) -> None:
    with serving(short_dir, store, auto_download_timeout=0.3) as gateway:
        answer = gateway.embed("org/waits", "a")
        assert (answer.status, answer.code) == (503, "model_loading")
        assert "50 %" in answer.json["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        go_on(store)
        until(lambda: gateway.embed("org/waits", "a").status == 200)
    assert len(starts(store)) == 1


def test_a_stranger_downloads_nothing(gateway: Gateway, store: ModelStore) -> None:
    body = {"model": "org/tiny", "input": "a"}
    answer = gateway.post(body, STRANGER)
    assert (answer.status, answer.code) == (404, "model_not_found")
    assert starts(store) == []

    assert gateway.post(body, OWNER).status == 200


def test_a_preload_is_fetched_too(short_dir: Path, store: ModelStore) -> None:
    with serving(short_dir, store, preload=("org/waits",), pin=("org/waits",)) as gateway:
        reasons = gateway.ask("GET", "/readyz").json["reasons"]
        assert reasons == ["org/waits: it is being downloaded"]
        go_on(store)
        until(lambda: gateway.ask("GET", "/readyz").status == 200)
        worker = gateway.worker("waits")

    assert worker is not None
    assert worker["pinned"]


# --- keep_alive ----------------------------------------------------------------------------------


def test_keep_alive_decides_when_a_model_leaves(gateway: Gateway, store: ModelStore) -> None:
    store.add("m")
    assert ask(gateway, "POST", "/api/embed", model="m", input="a", keep_alive="1h").status == 200
    hour = loaded(gateway)["m"]["expires_at"]
    assert gateway.embed("m", "a", keep_alive=-1).status == 200
    assert loaded(gateway)["m"]["expires_at"] > hour

    worker = psutil.Process(gateway.worker_pid("m"))
    assert gateway.embed("m", ["a", "b"], keep_alive=0).status == 200
    worker.wait(5)
    until(lambda: loaded(gateway) == {})


def test_an_empty_request_loads_and_unloads(gateway: Gateway, store: ModelStore) -> None:
    store.add("m", load_s=0.3)
    answer = ask(gateway, "POST", "/api/embed", model="m")
    assert answer.json["embeddings"] == []
    assert answer.json["load_duration"] >= 300_000_000
    assert loaded(gateway)["m"]["state"] == "ready"
    assert ask(gateway, "POST", "/api/embed", model="m", keep_alive="0s").status == 200
    until(lambda: loaded(gateway) == {})


# --- removing and copying ------------------------------------------------------------------------


def test_a_model_in_use_is_removed_after_its_requests(gateway: Gateway, store: ModelStore) -> None:
    store.add("m", step_s=0.02)
    texts = [f"text {number}" for number in range(32)]
    answers: list[Answer] = []
    asking = threading.Thread(
        target=lambda: answers.extend(asyncio.run(embed_all(gateway, "m", texts)))
    )
    asking.start()
    until(lambda: loaded(gateway).get("m", {}).get("state") == "ready")
    worker = psutil.Process(gateway.worker_pid("m"))
    answer = ask(gateway, "DELETE", "/api/delete", model="m")
    asking.join(LIMIT_S)

    assert answer.status == 200
    # Some may have come while it was being removed, or after.
    statuses = {answer.status for answer in answers}
    assert statuses <= {200, 404, 409}
    assert 200 in statuses
    for text, each in zip(texts, answers, strict=True):
        if each.status == 200:
            assert each.vectors() == [vector(text)]
    assert not psutil.pid_exists(worker.pid)
    assert gateway.embed("m", "a").status == 404
    assert ask(gateway, "DELETE", "/api/delete", model="m").status == 404
    assert not (store.models_dir / "m").exists()
    assert list((store.models_dir / ".staging").glob("*.old")) == []


def test_a_model_that_is_loading_for_somebody_serves_that_first(
    gateway: Gateway, store: ModelStore
) -> None:
    store.add("m", load_s=0.5)
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(gateway.embed("m", "a")))
    asking.start()
    until(lambda: loaded(gateway).get("m", {}).get("state") == "loading")
    assert ask(gateway, "DELETE", "/api/delete", model="m").status == 200
    asking.join(LIMIT_S)

    assert answers[0].vectors() == [vector("a")]


def test_who_leaves_does_not_stop_a_removal(gateway: Gateway, store: ModelStore) -> None:
    store.add("m", load_s=0.5)
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(gateway.embed("m", "a")))
    asking.start()
    until(lambda: loaded(gateway).get("m", {}).get("state") == "loading")
    with pytest.raises(httpx.ReadTimeout):
        httpx.request(
            "DELETE",
            f"http://127.0.0.1:{gateway.port}/api/delete",
            json={"model": "m"},
            timeout=0.1,
        )
    asking.join(LIMIT_S)

    assert answers[0].status == 200
    until(lambda: not (store.models_dir / "m").exists())


def test_what_is_being_pulled_cannot_be_removed_or_copied_over(
    gateway: Gateway, store: ModelStore
) -> None:
    store.add("m")
    store.add("waits", source="org/waits")
    stream = Stream(gateway, model="org/waits")
    stream.line()
    for answer in (
        ask(gateway, "DELETE", "/api/delete", model="waits"),
        ask(gateway, "POST", "/api/copy", source="m", destination="waits"),
    ):
        assert (answer.status, answer.json["code"]) == (409, "model_busy")
    go_on(store)
    stream.rest()
    assert ask(gateway, "DELETE", "/api/delete", model="waits").status == 200


def test_a_copy_outlives_its_original(gateway: Gateway, store: ModelStore) -> None:
    store.add("m", source="org/m")
    gateway.assert_serves("m")
    answer = ask(gateway, "POST", "/api/copy", source="org/m", destination="copy:latest")
    assert (answer.status, answer.body) == (200, b"")
    assert ask(gateway, "DELETE", "/api/delete", name="m").status == 200
    gateway.assert_serves("copy")

    for body, status in (
        ({"source": "absent", "destination": "x"}, 404),
        ({"source": "copy", "destination": "COPY"}, 400),
        ({"source": "copy", "destination": "../x"}, 400),
        ({"source": "copy", "destination": "a/b"}, 400),
        ({"source": "copy"}, 400),
    ):
        assert ask(gateway, "POST", "/api/copy", **body).status == status


def test_a_damaged_model_can_be_removed_and_hides_no_other(
    gateway: Gateway, store: ModelStore
) -> None:
    store.add("m")
    store.add_raw("broken", b"{")
    assert ask(gateway, "POST", "/api/embed", model="broken", input="a").status == 404
    assert ask(gateway, "DELETE", "/api/delete", model="broken").status == 200

    assert not (store.models_dir / "broken").exists()
    gateway.assert_serves("m")


def test_what_was_removed_behind_our_back_is_not_found(gateway: Gateway, store: ModelStore) -> None:
    folder = store.add("m").path
    gateway.assert_serves("m")
    (folder / MANIFEST_FILE).unlink()
    folder.rmdir()

    assert ask(gateway, "DELETE", "/api/delete", model="m").status == 404
    assert ask(gateway, "GET", "/api/tags").json["models"] == []


@pytest.mark.parametrize(
    "name",
    ["../../etc", "..%2f", "a/../../b", "/abs", "C:\\x", "a\0b", "a/b/c", "-rf", ".", "x" * 300],
)
def test_names_that_would_climb_are_only_unknown(gateway: Gateway, name: str) -> None:
    for method, path in (
        ("DELETE", "/api/delete"),
        ("POST", "/api/show"),
        ("POST", "/api/pull"),
        ("POST", "/api/embed"),
    ):
        assert ask(gateway, method, path, model=name).status in (400, 404)


# --- who may -------------------------------------------------------------------------------------


def test_strangers_may_not_manage_and_owners_may(gateway: Gateway, store: ModelStore) -> None:
    store.add("m")
    wrong = STRANGER | {"Authorization": "Bearer wrong-key"}
    for method, path, body in (
        ("POST", "/api/pull", {"model": "org/tiny", "stream": False}),
        ("POST", "/api/show", {"model": "m"}),
        ("GET", "/api/ps", {}),
        ("GET", "/api/jobs", {}),
        ("GET", "/health/detail", {}),
        ("POST", "/api/copy", {"source": "m", "destination": "n"}),
        ("DELETE", "/api/delete", {"model": "m"}),
    ):
        assert ask(gateway, method, path, STRANGER, **body).status == 403
        assert ask(gateway, method, path, wrong, **body).status == 401
        assert starts(store) == [] or path != "/api/pull"
        assert ask(gateway, method, path, OWNER, **body).status == 200, path
    assert ask(gateway, "POST", "/api/embed", STRANGER, model="n", input="a").status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "host_not_allowed"),
        ({"Origin": "https://evil.example"}, "origin_not_allowed"),
        ({"Origin": "null"}, "origin_not_allowed"),
        ({"Sec-Fetch-Site": "cross-site"}, "origin_not_allowed"),
    ],
)
def test_a_page_from_elsewhere_can_do_nothing(
    gateway: Gateway, store: ModelStore, headers: dict[str, str], code: str
) -> None:
    store.add("m")
    for method, path in (
        ("GET", "/"),
        ("GET", "/api/tags"),
        ("POST", "/api/pull"),
        ("DELETE", "/api/delete"),
        ("OPTIONS", "/v1/embeddings"),
        ("POST", "/no/such/path"),
    ):
        body = {"model": "m"} if method in ("POST", "DELETE") else {}
        answer = ask(gateway, method, path, headers, **body)
        assert answer.status == 403
        assert (answer.json.get("code") or answer.json["error"]["code"]) == code
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "x-request-id" in answer.headers
    assert [model["name"] for model in ask(gateway, "GET", "/api/tags").json["models"]] == ["m"]
    assert starts(store) == []


def test_a_page_of_this_machine_is_answered(gateway: Gateway, store: ModelStore) -> None:
    store.add("m")
    page = {"Origin": "http://localhost:5173", "Content-Type": "application/json"}
    answer = ask(gateway, "POST", "/api/embed", page, model="m", input="a")

    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"


def test_wrong_keys_lock_nobody_out(gateway: Gateway) -> None:
    started = monotonic()
    for number in range(200):
        wrong = STRANGER | {"Authorization": f"Bearer wrong-{number}"}
        assert gateway.ask("GET", "/api/ps", None, wrong).status == 401

    assert gateway.ask("GET", "/api/ps").status == 200
    assert gateway.ask("GET", "/api/ps", None, OWNER).status == 200
    assert monotonic() - started < LIMIT_S
    assert KEY not in gateway.log()
