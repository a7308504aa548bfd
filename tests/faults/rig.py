"""A server with every kind of worker, a canary beside it, and requests to do things to it with.

Invariants: every answer that comes through here is checked; requests whose answer nobody waits for
are counted, so that the server's own count can be held against ours.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import msgspec
import psutil

from mlx_serve_common.config import CacheConfig, ChatConfig, Config, LimitsConfig
from mlx_serve_common.models import ModelKind
from mlx_serve_worker.backends.fake import vector
from tests.faults import canary
from tests.faults.answers import check_answer
from tests.faults.canary import Canary
from tests.process.clients import RawClient
from tests.process.gateways import Answer, Gateway
from tests.process.homes import Home
from tests.store import ModelStore
from tests.waiting import until

EMBEDDERS = ("a", "b", "c")
RANKER = "ranker"
CHAT = "chat"
BATCH_TIMEOUT_S = 1.0

LIMITS = LimitsConfig(batch_timeout=BATCH_TIMEOUT_S, load_timeout=10, request_timeout=20)


class Rig:
    def __init__(self, gateway: Gateway, bird: Canary) -> None:
        self.gateway = gateway
        self.canary = bird
        self.answered = 0
        self.abandoned = 0
        """Requests whose answer nobody has waited for."""
        self._counting = threading.Lock()

    @property
    def store(self) -> ModelStore:
        return self.gateway.store

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.gateway.pid)

    # --- requests --------------------------------------------------------------------------------

    def ask(self, path: str, method: str = "POST", **body: Any) -> Answer:
        content = msgspec.json.encode(body) if body else None
        answer = self.gateway.ask(method, path, content)
        with self._counting:
            self.answered += 1
        check_answer(answer)
        return answer

    def embed(self, model: str, texts: str | list[str], **more: Any) -> Answer:
        return self.ask("/v1/embeddings", model=model, input=texts, **more)

    def chat(self, text: str, **more: Any) -> Answer:
        messages = [{"role": "user", "content": text}]
        return self.ask("/v1/chat/completions", model=CHAT, messages=messages, **more)

    def rerank(self, query: str, documents: list[str]) -> Answer:
        return self.ask("/v1/rerank", model=RANKER, query=query, documents=documents)

    def assert_serves(self, model: str) -> None:
        text = f"for {model}"
        assert self.embed(model, text).vectors() == [vector(text)]

    def abandon(self, client: RawClient) -> None:
        """Leave without waiting for the answer."""
        with self._counting:
            self.abandoned += 1
        client.reset()

    @contextmanager
    def in_flight(self, model: str, texts: list[str]) -> Iterator[list["Future[Answer]"]]:
        """One request for each text is in the server while the block begins; all have ended
        after it."""
        with ThreadPoolExecutor(len(texts)) as threads:
            before = self.gateway.waiting()
            requests = [threads.submit(self.embed, model, text) for text in texts]
            until(lambda: self.gateway.waiting() >= before + len(texts) or _any_done(requests))
            yield requests

    # --- what there is ---------------------------------------------------------------------------

    def worker(self, model: str) -> psutil.Process:
        return psutil.Process(self.gateway.worker_pid(model))

    def let_go(self) -> None:
        """Only the canary's model stays in memory: it is asked for all the time."""
        for worker in self._others():
            if worker["state"] != "absent":
                self.ask("/admin/unload", model=worker["model"])
        until(
            lambda: not any(worker["pid"] for worker in self._others()),
            what="the leaving of every other model",
        )

    def _others(self) -> list[dict[str, Any]]:
        workers = self.gateway.detail()["workers"]
        return [worker for worker in workers if worker["model"] != canary.MODEL]


def _any_done(requests: list["Future[Answer]"]) -> bool:
    return any(request.done() for request in requests)


@contextmanager
def rig() -> Iterator[Rig]:
    with Home() as home:
        home.store.add(canary.MODEL)
        for name in EMBEDDERS:
            home.store.add(name)
        home.store.add(RANKER, ModelKind.RERANKER)
        home.store.add(CHAT, ModelKind.CHAT, step_s=0.005)
        config = Config(
            limits=LIMITS,
            cache=CacheConfig(max_embedding_models=len(EMBEDDERS) + 1),
            chat=ChatConfig(spare=False),
        )
        with Gateway(home.path, home.store, config) as gateway:
            gateway.assert_serves(canary.MODEL)
            with Canary(gateway) as bird:
                rig = Rig(gateway, bird)
                rig.answered = 1
                yield rig
