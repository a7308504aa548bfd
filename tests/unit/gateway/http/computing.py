"""The application over a pool that answers by itself: handlers are tested, nothing is computed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any, NamedTuple, cast

import msgspec

from mlx_serve_common.chat import Delta
from mlx_serve_common.config import Config
from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_common.reloading import Reload
from mlx_serve_common.wire import (
    Detokenize,
    Detokenized,
    Embed,
    Embedded,
    EmbedTokens,
    Part,
    Piece,
    Rerank,
    Result,
    Scored,
    Tokenize,
    TokenizeConversation,
    Tokenized,
)
from mlx_serve_gateway.app import build_app
from mlx_serve_gateway.calls import Call
from mlx_serve_gateway.downloads import Downloads
from mlx_serve_gateway.event_log import EventLog
from mlx_serve_gateway.generate_call import GenerateCall
from mlx_serve_gateway.jobs import Jobs
from mlx_serve_gateway.lane_status import LaneStatus
from mlx_serve_gateway.lifecycle import Lifecycle
from mlx_serve_gateway.metrics import Metrics
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.registry import Registry
from mlx_serve_gateway.services import Controls, Services
from mlx_serve_gateway.spare import Spare
from tests.store import ModelStore
from tests.unit.gateway.http.asgi import Client, http_scope, response_of

FIRST_ID = 100
TOKENS_EACH = 3


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])

    @property
    def param(self) -> Any:
        return self.json["error"]["param"]


class StubPool:
    """Keeps what it was asked, and answers at once: item n with vector n."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.truncated: list[int] = []
        """Positions of inputs to call cut."""
        self.refusal: ServeError | None = None
        self.leased: list[str] = []
        self.ttl_s: float | None = None
        self.ready_since: float | None = None
        self.lanes: list[LaneStatus] = []
        self.unloaded: list[str] = []
        self.says: list[Delta] = []
        """What a chat model says, before it is done or refuses."""

    @property
    def part(self) -> Any:
        (only,) = self.parts
        return only

    @contextmanager
    def lease(
        self, model: InstalledModel, *calls: Call, ttl_s: float | None = None
    ) -> Iterator["StubPool"]:
        self.leased.append(model.name)
        self.ttl_s = ttl_s
        yield self

    def statuses(self) -> list[LaneStatus]:
        return self.lanes

    def unload(self, model: InstalledModel) -> None:
        self.unloaded.append(model.name)

    async def answer(self, call: Call) -> None:
        if self.refusal is not None:
            raise self.refusal
        call.first_id = FIRST_ID
        part = call.part(range(FIRST_ID, FIRST_ID + call.size))
        self.parts.append(part)
        result = self._result(part)
        call.put(result, range(call.size))
        await call.done

    @contextmanager
    def asked(self, call: GenerateCall) -> Iterator[None]:
        call.first_id = FIRST_ID
        ids = range(FIRST_ID, FIRST_ID + call.size)
        self.parts.append(call.part(ids))
        for id in ids:
            for delta in self.says:
                call.hear(id, delta)
        if self.refusal is not None:
            call.fail(self.refusal)
        yield

    def _result(self, part: Part) -> Result:
        ids = part.ids
        counts = [TOKENS_EACH] * len(ids)
        cut = [ids[position] for position in self.truncated]
        match part:
            case Embed() | EmbedTokens():
                vectors = [b"[%d]" % (id - FIRST_ID) for id in ids]
                return Embedded(ids, vectors, counts, cut, 0.25)
            case Rerank():
                scores = [0.5] * len(ids)
                return Scored(ids, scores, scores, counts, cut, 0.25)
            case Tokenize():
                pieces = [Piece("[X]", 0, 0, True, "[X]"), Piece("a", 0, 1, False, "##a")]
                return Tokenized(
                    ids, [[5, 6]] * len(ids), [pieces if part.pieces else []] * len(ids)
                )
            case Detokenize():
                return Detokenized(ids, ["-".join(map(str, tokens)) for tokens in part.tokens])
            case TokenizeConversation():
                return Tokenized(ids, [[5, 6, 7]] * len(ids), [[]] * len(ids))
            case _:
                raise AssertionError(f"no answer to {part}")


class Gateway:
    def __init__(
        self, store: ModelStore, config: Config | None = None, jobs: Jobs | None = None
    ) -> None:
        self.pool = StubPool()
        config = config or Config()
        registry = Registry(store.models_dir, config.models.aliases)
        jobs = jobs or cast(Jobs, None)
        self.services = services = Services(
            config=config,
            registry=registry,
            pool=cast(Pool, self.pool),
            lifecycle=Lifecycle("test", monotonic),
            jobs=jobs,
            downloads=Downloads(config, registry, jobs),
            spare=cast(Spare, None),
            metrics=Metrics(),
            tracing=None,
            events=EventLog(),
            controls=Controls(lambda: None, lambda: Reload(config, (), ())),
        )
        self.registry = services.registry
        self.app = build_app(services)

    async def post(self, path: str, body: Any) -> Reply:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        client = Client(content)
        return Reply(**await response_of(self.app, http_scope(path), client.receive))
