"""Answers that have to fit a JSON schema, from models that know no JSON."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mlx_serve_common.chat import Sampling
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.backends.generator import GeneratorBackend
from mlx_serve_worker.chat.grammars import MAX_SCHEMA_BYTES
from tests.engine.chat.conversing import GREEDY, answer, answers, begin, says, token_id
from tests.engine.chat.json_values import fitting

pytestmark = pytest.mark.engine


def an_object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


NUMBER = {"type": "integer", "minimum": 0, "maximum": 99}
WORD = {"type": "string", "maxLength": 6}
SCHEMAS = [
    an_object(city=WORD, people=NUMBER),
    an_object(kind={"enum": ["cat", "dog", "고양이"]}, is_old={"type": "boolean"}),
    an_object(parts={"type": "array", "items": NUMBER, "maxItems": 3}),
    an_object(inner=an_object(code={"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}$"})),
    an_object(either={"anyOf": [{"type": "null"}, an_object(a=NUMBER)]}),
]
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": an_object(city=WORD)},
    },
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {
                **an_object(one={"$ref": "#/$defs/number"}, other={"$ref": "#/$defs/number"}),
                "$defs": {"number": NUMBER},
            },
        },
    },
]


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_every_answer_fits(
    architecture: str, backend_of: Callable[[str], GeneratorBackend]
) -> None:
    backend = backend_of(architecture)
    asked = {}
    for at in range(50):
        schema = json.dumps(SCHEMAS[at % len(SCHEMAS)])
        asked[at] = (says("Hello"), Sampling(400, 1.0, seed=at, json_schema=schema))
    for at, heard in answers(backend, asked).items():
        assert heard.finish.reason == "stop", heard.text
        assert fitting(heard.text, SCHEMAS[at % len(SCHEMAS)]), heard.text
        assert not heard.reasoning


def test_an_answer_beside_it_is_as_free_as_before(backend: GeneratorBackend) -> None:
    free = answer(backend, says("Hello")).text
    bound = msgspec.structs.replace(GREEDY, json_schema=json.dumps(SCHEMAS[0]), max_tokens=200)
    both = answers(backend, {1: (says("Hello"), bound), 2: (says("Hello"), GREEDY)})
    assert both[2].text == free
    assert fitting(both[1].text, SCHEMAS[0])


def test_only_the_length_cuts_it(backend: GeneratorBackend) -> None:
    bound = Sampling(4, 0.0, json_schema=json.dumps(SCHEMAS[0]))
    heard = answer(backend, says("Hello"), bound)
    assert heard.finish.reason == "length"
    assert heard.text.startswith("{")


def test_thoughts_that_are_asked_for_are_free(backend: GeneratorBackend) -> None:
    end = token_id(backend._words.tokenizer, "</think>")
    bound = Sampling(300, 1.0, seed=3, json_schema=json.dumps(SCHEMAS[0]), logit_bias={end: 15.0})
    begun = says("Hello", "<think>\nLet me", continues=True)
    heard = answer(backend, begun, bound)
    assert heard.finish.reason == "stop", heard
    assert heard.reasoning
    assert heard.finish.reasoning_tokens > 0
    assert fitting(heard.text, SCHEMAS[0])


def test_a_model_may_begin_with_thoughts_if_it_is_asked_to_think(
    backend: GeneratorBackend,
) -> None:
    start = token_id(backend._words.tokenizer, "<think>")
    end = token_id(backend._words.tokenizer, "</think>")
    eager = {start: 300.0, end: 400.0}
    bound = Sampling(300, 1.0, seed=2, json_schema=json.dumps(SCHEMAS[0]), logit_bias=eager)
    heard = answer(backend, says("Hello", thinking=True), bound)
    assert heard.finish.reasoning_tokens
    assert fitting(heard.text, SCHEMAS[0])
    for wish in (None, False):
        heard = answer(backend, says("Hello", thinking=wish), bound)
        assert not heard.finish.reasoning_tokens
        assert fitting(heard.text, SCHEMAS[0])


@pytest.mark.parametrize("forced", [["weather"], ["add"], ["weather", "add"]])
def test_a_forced_call_is_made(forced: list[str], backend: GeneratorBackend) -> None:
    conversation = says("Hello", tools=TOOLS, forced=forced)
    asked = {at: (conversation, Sampling(400, 1.0, seed=at)) for at in range(4)}
    arguments = {"weather": an_object(city=WORD), "add": an_object(one=NUMBER, other=NUMBER)}
    for heard in answers(backend, asked).values():
        assert heard.finish.reason == "tool_calls"
        assert not heard.text
        (call,) = heard.calls
        assert call.name in forced
        assert fitting(call.arguments, arguments[call.name])


def test_a_tool_that_is_not_there_cannot_be_forced(backend: GeneratorBackend) -> None:
    with pytest.raises(ServeError) as caught:
        begin(backend, 1, says("Hello", tools=TOOLS, forced=["fly"]), GREEDY)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize(
    "schema",
    [
        "nonsense",
        "[1]",
        '{"type": "colour"}',
        '{"type": "string", "pattern": "(?=a)b"}',
        '{"type": "string", "pattern": "(("}',
        '{"$ref": "#/$defs/gone"}',
        '{"$ref": "http://127.0.0.1:9/schema"}',
        '{"not": {}}',
        json.dumps({"allOf": [{"type": "string", "pattern": f".*{at}.*"} for at in range(30)]}),
        '{"a": ' * 5000 + "1" + "}" * 5000,
        '{"enum": ["' + "x" * MAX_SCHEMA_BYTES + '"]}',
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: str, backend: GeneratorBackend) -> None:
    with pytest.raises(ServeError) as caught:
        begin(backend, 1, says("Hello"), Sampling(10, 0.0, json_schema=schema))
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert caught.value.param == "response_format"
    assert len(caught.value.message) < 500
    assert backend.is_idle


def test_settings_of_the_library_in_a_schema_are_passed_over(backend: GeneratorBackend) -> None:
    schema = {**SCHEMAS[0], "x-guidance": {"whitespace_flexible": True, "lenient": True}}
    bound = Sampling(300, 1.0, seed=4, json_schema=json.dumps(schema))
    assert '", "people": ' in answer(backend, says("Hello"), bound).text
