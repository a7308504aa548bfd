"""/v1/chat/completions: what is made of a request, and what is refused."""

from typing import Any

import msgspec
import pytest

from mlx_serve_common.chat import Conversation, Delta, Sampling
from mlx_serve_common.models import ModelKind
from mlx_serve_common.wire import Generate
from tests.store import ModelStore
from tests.unit.gateway.http.chat_models import ABLE, SIMPLE, TOOL, finish
from tests.unit.gateway.http.computing import Gateway, Reply

HI = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.fixture
def gateway(store: ModelStore) -> Gateway:
    store.add("m", ModelKind.CHAT, chat=ABLE)
    store.add("simple", ModelKind.CHAT, chat=SIMPLE)
    store.add("e")
    gateway = Gateway(store)
    gateway.pool.says = [Delta("one"), Delta(finish=finish())]
    return gateway


async def create(gateway: Gateway, **body: Any) -> Reply:
    return await gateway.post("/v1/chat/completions", {"model": "m", "messages": HI} | body)


async def generate(gateway: Gateway, **body: Any) -> Generate:
    reply = await create(gateway, **body)
    assert reply.status == 200, reply
    part = gateway.pool.parts.pop()
    assert isinstance(part, Generate)
    return part


async def conversation(gateway: Gateway, **body: Any) -> Conversation:
    prompt = (await generate(gateway, **body)).prompt
    assert isinstance(prompt, Conversation)
    return prompt


async def sampling(gateway: Gateway, **body: Any) -> Sampling:
    return (await generate(gateway, **body)).sampling


# --- how to answer -------------------------------------------------------------------------------


async def test_by_default_the_model_decides(gateway: Gateway) -> None:
    part = await generate(gateway)
    assert part.sampling == Sampling()
    assert part.prompt == Conversation(HI)
    assert part.choices == [0]


async def test_null_is_as_good_as_absent(gateway: Gateway) -> None:
    names = (
        "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "n",
        "repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias", "seed", "stop",
        "stream", "stream_options", "logprobs", "top_logprobs", "response_format", "tools",
        "tool_choice", "parallel_tool_calls", "reasoning_effort", "enable_thinking", "verbosity",
        "chat_template_kwargs", "keep_alive", "audio", "modalities", "functions", "function_call",
        "guided_json", "continue_final_message", "add_generation_prompt",
    )  # fmt: skip
    part = await generate(gateway, **dict.fromkeys(names))
    assert (part.sampling, part.prompt, part.choices) == (Sampling(), Conversation(HI), [0])


async def test_fields_without_a_meaning_here_are_ignored(gateway: Gateway) -> None:
    part = await generate(
        gateway, store=True, metadata={"a": "b"}, prompt_cache_key="k", safety_identifier="s",
        service_tier="auto", user="u", prediction={"type": "content", "content": "x"}, odd=[1],
        verbosity="medium", modalities=["text"],
    )  # fmt: skip
    assert (part.sampling, part.prompt) == (Sampling(), Conversation(HI))


async def test_every_number(gateway: Gateway) -> None:
    asked = await sampling(
        gateway, temperature=2, top_p=0.5, top_k=40, min_p=0.1, repetition_penalty=1.1,
        presence_penalty=-2, frequency_penalty=2, seed=-5, max_tokens=7,
        logit_bias={"5": -100, "7": 1.5},
    )  # fmt: skip
    assert asked == Sampling(
        temperature=2, top_p=0.5, top_k=40, min_p=0.1, repetition_penalty=1.1,
        presence_penalty=-2, frequency_penalty=2, seed=-5, max_tokens=7,
        logit_bias={5: -100, 7: 1.5},
    )  # fmt: skip


@pytest.mark.parametrize("top_k", [0, -1])
async def test_no_top_k(gateway: Gateway, top_k: int) -> None:
    assert (await sampling(gateway, top_k=top_k)).top_k == 0


async def test_the_newer_limit_wins(gateway: Gateway) -> None:
    asked = await sampling(gateway, max_tokens=5, max_completion_tokens=3)
    assert asked.max_tokens == 3


@pytest.mark.parametrize(
    ("given", "stop"),
    [("a", ["a"]), ("", []), (["a", "", "b"], ["a", "b"]), ([], []), (["x"] * 16, ["x"] * 16)],
)
async def test_stop(gateway: Gateway, given: Any, stop: list[str]) -> None:
    assert (await sampling(gateway, stop=given)).stop == stop


@pytest.mark.parametrize(
    ("given", "top"),
    [
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
        ({"logprobs": False, "top_logprobs": 0}, None),
    ],
)
async def test_logprobs(gateway: Gateway, given: dict[str, Any], top: int | None) -> None:
    assert (await sampling(gateway, **given)).top_logprobs == top


@pytest.mark.parametrize(
    ("given", "schema"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}, SCHEMA),
    ],
)
async def test_response_format(gateway: Gateway, given: Any, schema: Any) -> None:
    asked = (await sampling(gateway, response_format=given)).json_schema
    assert (asked and msgspec.json.decode(asked)) == schema


async def test_choices(gateway: Gateway) -> None:
    assert (await generate(gateway, n=8)).choices == list(range(8))


async def test_keep_alive(gateway: Gateway) -> None:
    await generate(gateway, keep_alive="5m")
    assert gateway.pool.ttl_s == 300


# --- the conversation ----------------------------------------------------------------------------


async def test_tools(gateway: Gateway) -> None:
    asked = await conversation(gateway, tools=[TOOL])
    assert (asked.tools, asked.forced, asked.is_parallel) == ([TOOL], [], True)
    asked = await conversation(
        gateway, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    )
    assert (asked.forced, asked.is_parallel) == (["f"], False)
    assert (await conversation(gateway, tools=[TOOL], tool_choice="none")).tools == []


async def test_arguments_of_earlier_calls_become_objects(gateway: Gateway) -> None:
    function = {"name": "f", "arguments": '{"a":1}'}
    call = {"id": "c", "type": "function", "function": function}
    messages = [*HI, {"role": "assistant", "content": None, "tool_calls": [call]}]
    (_, said) = (await conversation(gateway, messages=messages)).messages
    assert said["tool_calls"][0]["function"]["arguments"] == {"a": 1}


@pytest.mark.parametrize(
    ("given", "thinking", "effort"),
    [
        ({"reasoning_effort": "none"}, False, None),
        ({"reasoning_effort": "minimal"}, True, "low"),
        ({"reasoning_effort": "medium"}, True, "medium"),
        ({"reasoning_effort": "xhigh"}, True, "high"),
        ({"enable_thinking": False}, False, None),
        ({"enable_thinking": True}, True, None),
        ({"enable_thinking": False, "reasoning_effort": "high"}, False, None),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False, None),
        ({"chat_template_kwargs": {"thinking": True}}, True, None),
        ({"chat_template_kwargs": {"thinking": False}, "enable_thinking": True}, True, None),
    ],
)
async def test_thinking(
    gateway: Gateway, given: dict[str, Any], thinking: bool, effort: str | None
) -> None:
    asked = await conversation(gateway, **given)
    assert (asked.thinking, asked.effort, asked.variables) == (thinking, effort, {})
    if not thinking:
        # Who does not think need not be told not to.
        asked = await conversation(gateway, model="simple", **given)
        assert (asked.thinking, asked.effort) == (None, None)


async def test_variables_of_the_template(gateway: Gateway) -> None:
    given = {"enable_thinking": "yes", "style": {"a": 1}}
    assert (await conversation(gateway, chat_template_kwargs=given)).variables == given


@pytest.mark.parametrize("more", [{}, {"add_generation_prompt": False}])
async def test_an_answer_that_is_begun(gateway: Gateway, more: dict[str, Any]) -> None:
    messages = [*HI, {"role": "assistant", "content": "It is"}]
    given = {"messages": messages, "continue_final_message": True}
    assert (await conversation(gateway, **given, **more)).continues
    assert not (await conversation(gateway, messages=messages)).continues


# --- refusals ------------------------------------------------------------------------------------

INVALID = [
    {"temperature": -0.1}, {"temperature": 2.1}, {"temperature": "hot"}, {"top_p": 1.1},
    {"top_k": -2}, {"min_p": -1}, {"presence_penalty": 2.1}, {"frequency_penalty": -2.1},
    {"repetition_penalty": 0}, {"max_tokens": 0}, {"max_tokens": 10**30}, {"max_tokens": 1.5},
    {"max_completion_tokens": -1}, {"n": 0}, {"n": 9}, {"stop": ["x"] * 17}, {"stop": [5]},
    {"seed": 2**63}, {"seed": "x"}, {"logit_bias": {"x": 1}}, {"logit_bias": {"-1": 1}},
    {"logit_bias": {"1": 101}}, {"logit_bias": {str(id): 1 for id in range(4097)}},
    {"logprobs": True, "top_logprobs": 21}, {"top_logprobs": -1}, {"top_logprobs": 1},
    {"stream": "yes"}, {"stream_options": []}, {"reasoning_effort": "extreme"},
    {"response_format": {"type": "json_schema"}}, {"response_format": "json"},
    {"tools": {}}, {"tools": [5]}, {"tool_choice": "maybe"}, {"tool_choice": "required"},
    {"keep_alive": "soon"}, {"chat_template_kwargs": {"messages": []}},
    {"chat_template_kwargs": {"self": 1}}, {"continue_final_message": True},
    {"messages": []}, {"messages": None}, {"messages": "hi"}, {"model": 5},
]  # fmt: skip
UNSUPPORTED = [
    {"functions": [{}]}, {"function_call": "auto"}, {"audio": {"voice": "x"}},
    {"modalities": ["text", "audio"]}, {"web_search_options": {"a": 1}}, {"verbosity": "low"},
    {"guided_json": {"a": 1}}, {"guided_choice": ["a"]}, {"ignore_eos": True}, {"min_tokens": 5},
    {"stop_token_ids": [1]}, {"chat_template": "{{ x }}"}, {"documents": [{}]},
    {"response_format": {"type": "grammar"}}, {"add_generation_prompt": False},
    {"tools": [{"type": "web_search"}]},
]  # fmt: skip


@pytest.mark.parametrize("body", INVALID, ids=lambda body: str(body)[:40])
async def test_what_cannot_be_meant(gateway: Gateway, body: dict[str, Any]) -> None:
    reply = await create(gateway, **body)
    code = "empty_input" if body == {"messages": []} else "invalid_request"
    assert (reply.status, reply.code, reply.param) == (400, code, list(body)[-1])
    assert gateway.pool.parts == []


@pytest.mark.parametrize("body", UNSUPPORTED, ids=lambda body: str(body)[:40])
async def test_what_would_change_the_answer_and_is_not_done(
    gateway: Gateway, body: dict[str, Any]
) -> None:
    (param,) = body
    reply = await create(gateway, **body)
    assert (reply.status, reply.code, reply.param) == (400, "unsupported_parameter", param)


@pytest.mark.parametrize(
    "body",
    [{"tools": [TOOL]}, {"reasoning_effort": "low"}, {"enable_thinking": True}],
    ids=lambda body: str(body)[:20],
)
async def test_what_the_model_cannot_do(gateway: Gateway, body: dict[str, Any]) -> None:
    reply = await create(gateway, model="simple", **body)
    (param,) = body
    assert (reply.status, reply.code, reply.param) == (400, "unsupported_parameter", param)


async def test_a_start_that_contradicts_itself(gateway: Gateway) -> None:
    messages = [*HI, {"role": "assistant", "content": "It is"}]
    given = {"continue_final_message": True, "add_generation_prompt": True}
    reply = await create(gateway, messages=messages, **given)
    assert (reply.status, reply.param) == (400, "continue_final_message")


async def test_models(gateway: Gateway) -> None:
    assert (await create(gateway, model="nope")).code == "model_not_found"
    assert (await create(gateway, model="e")).code == "model_type_mismatch"
    # Two of them could be meant.
    assert (await create(gateway, model=None)).param == "model"
