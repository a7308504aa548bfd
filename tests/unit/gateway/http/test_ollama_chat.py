"""/api/chat and /api/generate: what is asked of the model, and its answer in Ollama's words."""

import math
import re
from datetime import datetime
from time import monotonic
from typing import Any, cast

import msgspec
import pytest

from mlx_serve_common.chat import (
    Conversation,
    Delta,
    LikelyToken,
    Plain,
    Prompt,
    SaidToken,
    Sampling,
    ToolCall,
)
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from mlx_serve_common.wire import Tokenize
from mlx_serve_gateway.http.answering import Hearing
from mlx_serve_gateway.http.ollama_answers import (
    Asked,
    OllamaLines,
    Wording,
    as_message,
    as_response,
)
from tests.store import ModelStore
from tests.unit.gateway.http.chat_models import ABLE, BARE, SIMPLE, TOOL, finish
from tests.unit.gateway.http.computing import Gateway, Reply

HI = [{"role": "user", "content": "hi"}]
METRICS = {
    "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration",
    "eval_count", "eval_duration",
}  # fmt: skip


@pytest.fixture
def gateway(store: ModelStore) -> Gateway:
    store.add("m", ModelKind.CHAT, chat=ABLE)
    store.add("simple", ModelKind.CHAT, chat=SIMPLE)
    store.add("bare", ModelKind.CHAT, chat=BARE)
    store.add("e")
    gateway = Gateway(store)
    gateway.pool.says = [Delta("one "), Delta("two"), Delta(finish=finish())]
    return gateway


async def chat(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post("/api/chat", {"model": "m", "messages": HI} | body)


async def generate(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post("/api/generate", {"model": "m", "prompt": "hi"} | body)


def lines(reply: Reply) -> list[dict[str, Any]]:
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.body.endswith(b"\n")
    return [msgspec.json.decode(line) for line in reply.body.splitlines()]


def prompt(gateway: Gateway) -> Prompt:
    given: Prompt = gateway.pool.part.prompt
    return given


# --- chat ----------------------------------------------------------------------------------------


async def test_a_stream_is_lines_and_the_last_is_done(gateway: Gateway) -> None:
    reply = await chat(gateway)
    *said, last = lines(reply)

    assert reply.status == 200
    for line in said:
        assert set(line) == {"model", "created_at", "message", "done"}
        assert line["message"]["role"] == "assistant"
        assert line["done"] is False
        assert datetime.fromisoformat(line["created_at"]).tzinfo is not None
    assert [line["message"]["content"] for line in said] == ["one ", "two"]
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["model"], last["done"], last["done_reason"]) == ("m", True, "stop")
    assert set(last) == {"model", "created_at", "message", "done", "done_reason"} | METRICS


@pytest.mark.parametrize("stream", [None, True])
async def test_streaming_is_the_default(gateway: Gateway, stream: bool | None) -> None:
    assert len(lines(await chat(gateway, stream=stream))) == 3


async def test_whole(gateway: Gateway) -> None:
    reply = await chat(gateway, stream=False)

    assert reply.headers["content-type"] == "application/json"
    assert reply.json["message"] == {"role": "assistant", "content": "one two"}
    assert (reply.json["done"], reply.json["done_reason"]) == (True, "stop")
    assert set(reply.json) >= METRICS


async def test_durations_are_nanoseconds(gateway: Gateway) -> None:
    gateway.pool.ready_since = monotonic() + 2
    told = (await chat(gateway, stream=False)).json

    assert 1_000_000_000 < told["load_duration"] <= 2_000_000_000
    assert told["prompt_eval_duration"] == 250_000_000
    assert told["eval_duration"] == 500_000_000
    assert (told["prompt_eval_count"], told["eval_count"]) == (5, 3)
    assert all(isinstance(told[name], int) for name in METRICS)


@pytest.mark.parametrize(
    ("reason", "told"), [("stop", "stop"), ("length", "length"), ("tool_calls", "stop")]
)
@pytest.mark.parametrize("stream", [True, False])
async def test_done_reason(gateway: Gateway, reason: str, told: str, stream: bool) -> None:
    gateway.pool.says = [Delta("x", finish=finish(reason=reason))]
    assert lines_or_one(await chat(gateway, stream=stream))[-1]["done_reason"] == told


def lines_or_one(reply: Reply) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in reply.body.splitlines()]


async def test_thinking_stands_apart(gateway: Gateway) -> None:
    gateway.pool.says = [Delta("x", reasoning="hm"), Delta(reasoning="m"), Delta(finish=finish())]
    streamed = lines(await chat(gateway))
    whole = (await chat(gateway, stream=False)).json

    # haystack's chunks cannot hold both.
    assert streamed[0]["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert streamed[1]["message"] == {"role": "assistant", "content": "x"}
    assert whole["message"] == {"role": "assistant", "content": "x", "thinking": "hmm"}


async def test_arguments_of_calls_are_objects(gateway: Gateway) -> None:
    first, second = ToolCall("f", '{"a":\n1}'), ToolCall("g", "{}")
    gateway.pool.says = [Delta("t", calls=[first]), Delta(calls=[second], finish=finish())]
    streamed = lines(await chat(gateway, tools=[TOOL]))
    calls = [call for line in streamed for call in line["message"].get("tool_calls", [])]
    whole = (await chat(gateway, tools=[TOOL], stream=False)).json["message"]

    for told in (calls, whole["tool_calls"]):
        assert [call["function"] for call in told] == [
            {"index": 0, "name": "f", "arguments": {"a": 1}},
            {"index": 1, "name": "g", "arguments": {}},
        ]
        ids = {call["id"] for call in told}
        assert len(ids) == 2
        # Templates of Mistral's take no other, and it comes back in the next request.
        assert all(re.fullmatch("[0-9a-z]{9}", id) for id in ids)
    assert whole["content"] == "t"


async def test_logprobs(gateway: Gateway) -> None:
    likely = LikelyToken("é", "é".encode(), -0.5)
    said = SaidToken(likely, [LikelyToken("e", b"e", -1.0)])
    gateway.pool.says = [Delta("é", tokens=[said]), Delta(tokens=[said], finish=finish())]
    told = {
        "token": "é", "logprob": -0.5, "bytes": [195, 169],
        "top_logprobs": [{"token": "e", "logprob": -1.0, "bytes": [101]}],
    }  # fmt: skip
    *streamed, last = lines(await chat(gateway, logprobs=True, top_logprobs=1))

    assert [line["logprobs"] for line in streamed] == [[told], [told]]
    assert "logprobs" not in last
    assert (await chat(gateway, logprobs=True, stream=False)).json["logprobs"] == [told, told]


async def test_an_error_before_the_first_word_is_an_http_error(gateway: Gateway) -> None:
    gateway.pool.says = []
    gateway.pool.refusal = ServeError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "too long")
    for stream in (True, False):
        reply = await chat(gateway, stream=stream)
        assert (reply.status, reply.json["error"]) == (400, "too long")
        assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("wording", [as_message, as_response])
def test_a_silence_is_a_line_that_says_nothing(store: ModelStore, wording: Wording) -> None:
    model = store.add("m", ModelKind.CHAT)
    asked = Asked(name="m", model=model, ttl_s=None, is_streamed=True, since=0, wording=wording)
    silence = OllamaLines(asked, cast(Hearing, None)).silence()
    line = msgspec.json.decode(silence)

    assert silence.endswith(b"\n")
    assert line["done"] is False
    assert line.get("response", line.get("message", {}).get("content")) == ""


async def test_an_error_in_a_stream_is_its_last_line(gateway: Gateway) -> None:
    gateway.pool.says = [Delta("one ")]
    gateway.pool.refusal = ServeError(ErrorCode.WORKER_CRASHED, "it died")
    reply = await chat(gateway)
    *said, last = lines(reply)

    assert reply.status == 200
    assert last["error"] == "it died"
    assert said
    assert all("error" not in line for line in said)


async def test_what_the_model_is_asked(gateway: Gateway) -> None:
    options = {"temperature": 0.5, "stop": ["x"]}
    await chat(gateway, tools=[TOOL], think="max", options=options, format="json")

    assert gateway.pool.part.sampling == Sampling(
        temperature=0.5, stop=["x"], json_schema='{"type":"object"}'
    )
    asked = prompt(gateway)
    assert isinstance(asked, Conversation)
    assert asked.messages == HI
    assert asked.tools == [TOOL]
    assert (asked.thinking, asked.effort, asked.continues) == (True, "high", False)


async def test_a_last_message_of_the_assistant_is_continued(gateway: Gateway) -> None:
    await chat(gateway, messages=[*HI, {"role": "assistant", "content": "Well, "}])
    asked = prompt(gateway)

    assert isinstance(asked, Conversation)
    assert asked.continues


@pytest.mark.parametrize(
    ("model", "think", "thinking", "effort"),
    [
        ("m", None, None, None),
        ("m", True, True, None),
        ("m", False, False, None),
        ("m", "low", True, "low"),
        ("simple", None, None, None),
        ("simple", False, None, None),
    ],
)
async def test_think(
    gateway: Gateway, model: str, think: Any, thinking: bool | None, effort: str | None
) -> None:
    for reply in (await chat(gateway, model=model, think=think),
                  await generate(gateway, model=model, think=think)):  # fmt: skip
        assert reply.status == 200
    for part in gateway.pool.parts:
        asked = part.prompt  # type: ignore[union-attr]
        assert isinstance(asked, Conversation)
        assert (asked.thinking, asked.effort) == (thinking, effort)


@pytest.mark.parametrize("think", [True, "low"])
async def test_a_model_that_cannot_think_says_so(gateway: Gateway, think: Any) -> None:
    for reply in (await chat(gateway, model="simple", think=think),
                  await generate(gateway, model="simple", think=think)):  # fmt: skip
        assert (reply.status, reply.json["error"]) == (400, '"simple" does not support thinking')


async def test_a_model_without_tools_says_so(gateway: Gateway) -> None:
    reply = await chat(gateway, model="simple", tools=[TOOL])
    assert (reply.status, reply.json["error"]) == (400, '"simple" does not support tools')
    assert (await chat(gateway, model="simple", tools=[])).status == 200


# --- generate ------------------------------------------------------------------------------------


async def test_generated_lines(gateway: Gateway) -> None:
    gateway.pool.says = [Delta("one", reasoning="hm"), Delta(" two", finish=finish())]
    *said, last = lines(await generate(gateway))

    assert [line["response"] for line in said] == ["", "one", " two"]
    assert said[0]["thinking"] == "hm"
    assert all("thinking" not in line and "message" not in line for line in said[1:])
    assert (last["response"], last["done"], last["done_reason"]) == ("", True, "stop")
    assert set(last) == {"model", "created_at", "response", "done", "done_reason"} | METRICS


async def test_generated_whole(gateway: Gateway) -> None:
    told = (await generate(gateway, stream=False)).json
    assert (told["response"], told["done"]) == ("one two", True)


async def test_a_prompt_is_a_users_message(gateway: Gateway) -> None:
    await generate(gateway, system="be kind", context=[1, 2], template="", suffix="", images=[])
    asked = prompt(gateway)

    assert isinstance(asked, Conversation)
    assert asked.messages == [{"role": "system", "content": "be kind"}, *HI]


@pytest.mark.parametrize(("model", "raw"), [("m", True), ("bare", None)])
async def test_a_prompt_as_it_stands(gateway: Gateway, model: str, raw: bool | None) -> None:
    await generate(gateway, model=model, raw=raw)
    assert prompt(gateway) == Plain("hi")


@pytest.mark.parametrize(
    "body",
    [
        {"suffix": "x"},
        {"template": "{{ .Prompt }}"},
        {"images": ["aGk="]},
        {"raw": True, "system": "x"},
        {"raw": True, "context": [1]},
    ],
    ids=str,
)
async def test_what_generate_cannot_do(gateway: Gateway, body: dict[str, Any]) -> None:
    reply = await generate(gateway, **body)

    assert (reply.status, reply.json["code"]) == (400, "unsupported_parameter")
    assert gateway.pool.parts == []


# --- both ----------------------------------------------------------------------------------------

EMPTY: list[tuple[str, dict[str, Any]]] = [
    ("/api/chat", {"messages": []}),
    ("/api/chat", {"messages": None}),
    ("/api/chat", {}),
    ("/api/generate", {"prompt": ""}),
    ("/api/generate", {}),
]


@pytest.mark.parametrize(("path", "body"), EMPTY)
async def test_nothing_to_answer_loads_the_model(
    gateway: Gateway, path: str, body: dict[str, Any]
) -> None:
    reply = await gateway.post(path, {"model": "m:latest", "keep_alive": "5m"} | body)

    assert reply.headers["content-type"] == "application/json"
    assert (reply.json["done"], reply.json["done_reason"]) == (True, "load")
    assert reply.json["model"] == "m:latest"
    assert reply.json.get("response", reply.json.get("message")) in (
        "", {"role": "assistant", "content": ""},
    )  # fmt: skip
    assert isinstance(gateway.pool.part, Tokenize)
    assert gateway.pool.ttl_s == 300


@pytest.mark.parametrize(("path", "body"), EMPTY)
async def test_nothing_to_answer_and_no_time_to_stay_lets_it_go(
    gateway: Gateway, path: str, body: dict[str, Any]
) -> None:
    reply = await gateway.post(path, {"model": "m", "keep_alive": 0} | body)

    assert reply.json["done_reason"] == "unload"
    assert gateway.pool.unloaded == ["m"]
    assert gateway.pool.parts == []


@pytest.mark.parametrize(
    ("given", "seconds"), [("5m", 300), (60, 60), (0, 0), (-1, math.inf), (None, None)]
)
async def test_keep_alive(gateway: Gateway, given: Any, seconds: float | None) -> None:
    for ask in (chat, generate):
        assert (await ask(gateway, keep_alive=given)).status == 200
        assert gateway.pool.ttl_s == seconds


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": None}, 400, "invalid_request"),
        ({"model": "absent"}, 404, "model_not_found"),
        ({"model": "e"}, 400, "model_type_mismatch"),
        ({"keep_alive": "soon"}, 400, "invalid_request"),
        ({"think": "hard"}, 400, "invalid_request"),
        ({"think": 1}, 400, "invalid_request"),
        ({"format": "yaml"}, 400, "invalid_request"),
        ({"format": 5}, 400, "invalid_request"),
        ({"options": {"temperature": "hot"}}, 400, "invalid_request"),
        ({"top_logprobs": 21, "logprobs": True}, 400, "invalid_request"),
    ],
    ids=str,
)
async def test_errors(gateway: Gateway, body: dict[str, Any], status: int, code: str) -> None:
    for ask in (chat, generate):
        reply = await ask(gateway, **body)
        assert (reply.status, reply.json["code"]) == (status, code)
        assert isinstance(reply.json["error"], str)
    assert gateway.pool.parts == []
