"""Everything at once, for as long as wanted: ``python -m tests.faults.chaos MINUTES [SEED]``.

Twenty clients ask for good and bad things, leave in the middle and send poison, while workers are
killed and stopped, models unloaded, pulled and deleted. What must not happen is counted and told;
the exit code is 1 if anything did.
"""

import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from random import Random
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import msgspec
import psutil

from mlx_serve_common.config import CacheConfig, ChatConfig, Config
from mlx_serve_common.models import ModelKind
from mlx_serve_worker.backends.fake import vector
from tests.engine import tiny
from tests.faults import canary
from tests.faults.answers import check_answer
from tests.faults.canary import Canary
from tests.faults.prober import Prober
from tests.faults.rig import BATCH_TIMEOUT_S, LIMITS
from tests.hub.repositories import HubRepository
from tests.hub.server import Hub
from tests.process.clients import RawClient
from tests.process.gateways import Answer, Gateway
from tests.process.homes import Home
from tests.waiting import until

CLIENTS = 20
EMBEDDERS = [f"e{number}" for number in range(4)]
PULLED = "org/tiny"
BAD: list[tuple[str, dict[str, Any]]] = [
    ("/v1/embeddings", {"model": "nobody", "input": "x"}),
    ("/v1/embeddings", {}),
    ("/v1/embeddings", {"input": []}),
    ("/v1/embeddings", {"input": {"a": 1}}),
    ("/v1/embeddings", {"model": "ranker", "input": "x"}),
    ("/v1/embeddings", {"input": "x", "dimensions": -1}),
    ("/embed", {"inputs": [[]]}),
    ("/v1/rerank", {"query": "q", "documents": ["d"]}),
    ("/v1/rerank", {"model": "ranker", "query": "q", "documents": [1]}),
    ("/v1/score", {"model": "ranker", "text_1": [], "text_2": "x"}),
    ("/v1/tokenize", {"input": {"a": "b"}}),
    ("/v1/detokenize", {"tokens": [-1]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
    ("/v1/chat/completions", {"model": "chat", "messages": []}),
    ("/v1/chat/completions", {"model": "chat", "messages": [{"role": "user"}], "n": 10**6}),
    ("/v1/completions", {"model": "chat", "prompt": ""}),
    ("/v1/responses", {"model": "chat", "input": [{"type": "image"}]}),
    ("/v1/messages", {"model": "chat", "messages": [], "max_tokens": 0}),
    ("/api/chat", {"model": "chat", "messages": [{"role": "nobody", "content": "x"}]}),
    ("/api/generate", {"model": "chat", "prompt": "x", "images": ["x"]}),
    ("/api/embed", {"input": 1}),
    ("/api/pull", {"model": "../../etc"}),
    ("/api/copy", {"source": "canary", "destination": "../x"}),
    ("/admin/load", {"model": "nobody"}),
]
PAUSE_S = (0.2, 1.0)
"""Between two faults."""
RECOVERED_S = 5.0
"""After a worker's death its model answers within this and the time that it takes to load."""
HEALTH_P99_S = 0.25


@dataclass
class Record:
    answers: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    healths: list[float] = field(default_factory=list)

    def report(self) -> str:
        healths = quantiles(self.healths, n=100)
        lines = [
            "answers   " + _counts(self.answers),
            "faults    " + _counts(self.faults),
            f"recovery  {len(self.recoveries)} times, the longest {max(self.recoveries):.2f} s",
            f"/health   p50 {1000 * healths[49]:.0f} ms, p99 {1000 * healths[98]:.0f} ms",
            f"wrong     {len(self.wrong)}",
            *(f"          {each}" for each in self.wrong[:20]),
        ]
        return "\n".join(lines)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counter.items()))


class Chaos:
    def __init__(self, gateway: Gateway, seed: int) -> None:
        self.gateway = gateway
        self.record = Record()
        self._seed = seed
        self._over = threading.Event()

    def run(self, seconds: float) -> None:
        actors: list[Callable[[Random], None]] = [self._client] * CLIENTS
        actors += [self._villain, self._keeper]
        threads = [
            threading.Thread(target=self._act, args=(actor, Random(self._seed + number)))
            for number, actor in enumerate(actors)
        ]
        for thread in threads:
            thread.start()
        self._over.wait(seconds)
        self._over.set()
        for thread in threads:
            thread.join(120)
            if thread.is_alive():
                self.record.wrong.append("a request had no answer at the end")

    def _act(self, actor: Callable[[Random], None], chance: Random) -> None:
        while not self._over.is_set():
            try:
                actor(chance)
            except (AssertionError, OSError, HTTPException, KeyError, ValueError) as error:
                self.record.wrong.append(f"{actor.__name__}: {error!r}"[:600])

    # --- clients ---------------------------------------------------------------------------------

    def _client(self, chance: Random) -> None:
        text = f"text {chance.random()}"
        match chance.randrange(20):
            case 0:
                self._leave(chance, text)
            case 1:
                self._bad(chance)
            case 2 if chance.random() < 0.2:
                self._poison(chance, text)
            case 3 | 4 | 5:
                self._rerank(text)
            case 6 | 7:
                self._chat(text)
            case _:
                self._embed(chance.choice(EMBEDDERS), text, chance.randint(1, 8))

    def _ask(self, path: str, method: str = "POST", **body: Any) -> Answer:
        answer = self.gateway.ask(method, path, msgspec.json.encode(body))
        check_answer(answer)
        name = str(answer.status) if answer.status < 400 else f"{answer.status} {_code(answer)}"
        self.record.answers[name] += 1
        return answer

    def _is_good(self, answer: Answer) -> bool:
        """Whoever asked for nothing bad is answered, or told to come again."""
        assert answer.status in (200, 429, 503), answer
        return answer.status == 200

    def _embed(self, model: str, text: str, count: int) -> None:
        texts = [f"{text} {number}" for number in range(count)]
        answer = self._ask("/v1/embeddings", model=model, input=texts)
        if self._is_good(answer):
            assert answer.vectors() == [vector(each) for each in texts], "a wrong vector"

    def _rerank(self, text: str) -> None:
        documents = [f"{text} {number}" for number in range(4)]
        answer = self._ask("/v1/rerank", model="ranker", query="q", documents=documents)
        if self._is_good(answer):
            for found in answer.json["results"]:
                score = vector(documents[found["index"]])[0]
                assert found["relevance_score"] == score, "a wrong score"

    def _chat(self, text: str) -> None:
        messages = [{"role": "user", "content": text}]
        answer = self._ask("/v1/chat/completions", model="chat", messages=messages)
        if self._is_good(answer):
            said = answer.json["choices"][0]["message"]["content"]
            assert said == f"echo: {text}", "a wrong answer"

    def _bad(self, chance: Random) -> None:
        model = chance.choice(EMBEDDERS)
        path, body = chance.choice(BAD)
        answer = self._ask(path, **({"model": model} | body))
        assert 400 <= answer.status < 500, answer

    def _poison(self, chance: Random, text: str) -> None:
        word = chance.choice(["__crash__", "__exit0__", "__nan__", "__raise__"])
        answer = self._ask(
            "/v1/embeddings", model=chance.choice(EMBEDDERS), input=["fine", f"{word} {text}"]
        )
        guilty = {"worker_crashed", "invalid_model_output", "inference_failed"}
        assert answer.status in (429, 503) or answer.code in guilty, answer

    def _leave(self, chance: Random, text: str) -> None:
        client = RawClient(self.gateway)
        client.post(msgspec.json.encode({"model": chance.choice(EMBEDDERS), "input": [text] * 20}))
        client.reset()
        self.record.answers["left"] += 1

    # --- what is done to the server --------------------------------------------------------------

    def _villain(self, chance: Random) -> None:
        self._over.wait(chance.uniform(*PAUSE_S))
        workers = [each for each in self.gateway.detail()["workers"] if each["pid"]]
        victims = [each for each in workers if each["model"] != canary.MODEL]
        if not victims:
            return
        victim = chance.choice(victims)
        fault = chance.choice(["kill", "kill", "stop", "unload", "sentinel", "reload"])
        with suppress(psutil.NoSuchProcess, ValueError):
            match fault:
                case "kill":
                    psutil.Process(victim["pid"]).kill()
                case "stop":
                    psutil.Process(victim["pid"]).suspend()
                case "unload":
                    self._ask("/admin/unload", model=victim["model"])
                case "reload":
                    assert self._ask("/admin/reload").status == 200
                case _:
                    self.gateway.sentinel().kill()
            self.record.faults[fault] += 1
        if fault in ("kill", "stop") and victim["model"] in EMBEDDERS:
            # A stop is noticed when the worker should have got on.
            waits = BATCH_TIMEOUT_S if victim["state"] == "ready" else LIMITS.load_timeout
            self._recovers(victim["model"], waits if fault == "stop" else 0.0)

    def _recovers(self, model: str, noticed_s: float) -> None:
        asked = threading.Thread(target=self._until_served, args=(model,))
        asked.start()
        started = monotonic()
        while asked.is_alive():
            asked.join(0.05)
            worker = self.gateway.worker(model)
            if worker is not None and worker["state"] in ("waiting for room", "yielding"):
                started = monotonic()  # another has its turn
        took_s = monotonic() - started
        self.record.recoveries.append(took_s)
        assert took_s < RECOVERED_S + noticed_s, f"{model} was back after {took_s:.1f} s"

    def _until_served(self, model: str) -> None:
        while self._ask("/v1/embeddings", model=model, input="are you there").status != 200:
            self._over.wait(0.05)

    def _keeper(self, chance: Random) -> None:
        """Pulls a model from the hub, kills the pull now and then, uses the model, deletes it."""
        is_killed = chance.random() < 0.3
        killer = threading.Timer(chance.uniform(0.2, 2.0), self._kill_jobs)
        if is_killed:
            killer.start()
        pulled = self._ask("/api/pull", model=PULLED, stream=False)
        killer.cancel()
        self.record.faults["pull killed" if is_killed else "pull"] += 1
        if pulled.status == 200:
            answer = self._ask("/v1/embeddings", model="tiny", input="x")
            assert answer.status in (200, 429, 503), answer
            deleted = self._ask("/api/delete", "DELETE", model="tiny")
            assert deleted.status in (200, 409), deleted
            self.record.faults["delete"] += 1
        else:
            assert is_killed, pulled
        self._over.wait(1)

    def _kill_jobs(self) -> None:
        for process in psutil.Process(self.gateway.pid).children(recursive=True):
            with suppress(psutil.Error):
                if "mlx_serve_worker.job" in process.cmdline():
                    process.kill()


def _code(answer: Answer) -> str:
    error = msgspec.json.decode(answer.body)["error"]
    if isinstance(error, str):
        return "in Ollama's words"
    return str(error.get("code", "in Anthropic's words"))


def wreak(seconds: float, seed: int) -> Record:
    with ExitStack() as stack:
        home = stack.enter_context(Home())
        folder = Path(stack.enter_context(TemporaryDirectory()))
        hub = stack.enter_context(Hub())
        hub.add(HubRepository.of_folder(PULLED, tiny.build(tiny.LAYOUTS["mean"], folder)))
        for name in (canary.MODEL, *EMBEDDERS):
            home.store.add(name)
        home.store.add("ranker", ModelKind.RERANKER)
        home.store.add("chat", ModelKind.CHAT)
        config = Config(
            limits=LIMITS,
            cache=CacheConfig(max_embedding_models=len(EMBEDDERS) + 1),
            chat=ChatConfig(spare=False),
        )
        env = hub.environment() | {"HF_HOME": str(home.path / "hf")}
        gateway = stack.enter_context(Gateway(home.path, home.store, config, **env))
        bird = stack.enter_context(Canary(gateway))
        chaos = Chaos(gateway, seed)
        until(lambda: bird.answers, what="the canary")
        before = psutil.Process(gateway.pid).num_fds()
        with Prober(gateway.port) as prober:
            chaos.run(seconds)
        chaos.record.healths = prober.took_s
        chaos.record.wrong += [f"/health: {each}" for each in prober.wrong]
        _come_to_rest(gateway, bird, chaos.record, before)
        return chaos.record


def _come_to_rest(gateway: Gateway, bird: Canary, record: Record, before: int) -> None:
    process = psutil.Process(gateway.pid)
    for worker in gateway.detail()["workers"]:
        if worker["model"] != canary.MODEL and worker["state"] != "absent":
            gateway.ask("POST", "/admin/unload", msgspec.json.encode({"model": worker["model"]}))
    try:
        until(lambda: len(process.children(recursive=True)) <= 2, what="the end of the workers")
        until(lambda: process.num_fds() <= before + 4, what="the closing of descriptors")
        until(lambda: gateway.waiting() <= 1, what="an empty queue")
        assert not bird.complaints, f"the canary: {bird.complaints[:3]}"
        assert "internal_error" not in gateway.log()
        assert sum(record.healths) > 0
        assert quantiles(record.healths, n=100)[98] < HEALTH_P99_S, "a slow /health"
    except AssertionError as error:
        record.wrong.append(str(error)[:600])


def main() -> int:
    minutes = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    record = wreak(60 * minutes, seed)
    print(f"{minutes:g} minutes, seed {seed}\n{record.report()}")  # noqa: T201
    return 1 if record.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
