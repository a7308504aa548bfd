"""What a conversation becomes for the model, and which it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlx_serve_common.chat import Conversation, Plain, TokenIds
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.backends.generator import GeneratorBackend
from tests.engine.chat.conversing import GREEDY, answer, begin, chat_model, load, says, token_id

pytestmark = pytest.mark.engine

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
CALL = {
    "type": "function",
    "id": "1",
    "function": {"name": "weather", "arguments": {"city": "서울"}},
}


def words(backend: GeneratorBackend, conversation: Conversation) -> str:
    ids = backend._answers.read(conversation)
    return str(backend._words.tokenizer.decode(ids, skip_special_tokens=False))


def refusal(backend: GeneratorBackend, prompt: Any) -> ServeError:
    with pytest.raises(ServeError) as caught:
        begin(backend, 1, prompt, GREEDY)
    assert backend.is_idle
    return caught.value


@pytest.mark.parametrize("architecture", ["qwen3", "qwen2", "llama"])
@pytest.mark.parametrize("thinking", [None, True, False])
def test_conversations_read_as_transformers_renders_them(
    architecture: str,
    thinking: bool | None,
    backend_of: Callable[[str], GeneratorBackend],
    chat_path: Callable[[str], Path],
) -> None:
    from transformers import AutoTokenizer

    theirs: Any = AutoTokenizer.from_pretrained(chat_path(architecture))
    backend = backend_of(architecture)
    knows_tools = architecture != "llama"
    if thinking and architecture != "qwen3":
        return
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief. 짧게."},
        {"role": "user", "content": "What is the weather?  \n"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "sunny ☀️", "tool_call_id": "1"},
        {"role": "assistant", "content": "Sunny.", "reasoning_content": "It says so."},
        {"role": "user", "content": "<b>Thanks</b> & bye"},
    ]
    if not knows_tools:
        messages = [message for message in messages if message["role"] != "tool"]
    tools = [TOOL] if knows_tools else []
    variables: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
    expected = theirs.apply_chat_template(
        messages, tools=tools or None, add_generation_prompt=True, tokenize=False, **variables
    )
    conversation = Conversation(messages, tools, thinking=thinking)
    assert words(backend, conversation) == expected
    ids = theirs.encode(expected, add_special_tokens=False)
    assert backend._answers.read(conversation) == ids


def test_an_answer_that_was_begun_is_continued(backend: GeneratorBackend) -> None:
    text = words(backend, says("Hello", "Once upon a", continues=True))
    assert text.endswith("<|im_start|>assistant\nOnce upon a")
    assert refusal(backend, says("Hello", continues=True)).param == "messages"


def test_a_text_and_ids_are_read_as_they_are(backend: GeneratorBackend) -> None:
    plain = answer(backend, Plain("<|im_start|>user"))
    tokenizer = backend._words.tokenizer
    ids = tokenizer.encode("<|im_start|>user", add_special_tokens=False).ids
    assert plain.finish.prompt_tokens == len(ids)
    assert answer(backend, TokenIds(ids)).text == plain.text


def test_variables_and_efforts_reach_the_template(tmp_path: Path) -> None:
    template = (
        "{{ reasoning_effort }} {{ colour }} {{ bos_token is defined }}"
        "{% for message in messages %}{{ message.role }}:{{ message.content }} {% endfor %}"
    )
    backend = load(chat_model(tmp_path, "llama", template=template))
    conversation = says("Hello", effort="high", variables={"colour": "red"})
    assert words(backend, conversation).startswith("high red ")


def test_a_developer_is_the_system_where_the_template_knows_none(
    backend: GeneratorBackend,
) -> None:
    def asked(role: str) -> Conversation:
        return Conversation([{"role": role, "content": "Be brief"}, *says("Hello").messages])

    assert words(backend, asked("developer")) == words(backend, asked("system"))


@pytest.mark.parametrize(
    ("architecture", "prompt", "code", "param"),
    [
        ("qwen3", says(), "empty_input", "messages"),
        ("qwen3", Plain(""), "empty_input", "prompt"),
        ("qwen3", TokenIds([]), "empty_input", "prompt"),
        ("qwen3", TokenIds([-1]), "invalid_request", "prompt"),
        ("qwen3", TokenIds([10**6]), "invalid_request", "prompt"),
        ("qwen3", Plain("\ud83d"), "invalid_request", "prompt"),
        ("qwen3", says("half \ud83d"), "invalid_request", "messages"),
        ("qwen3", says(*["a"] * 10_001), "invalid_request", "messages"),
        ("qwen3", says(*["a b"] * 10_000), "context_length_exceeded", "messages"),
        (
            "qwen3",
            Conversation([{"role": "narrator", "content": "It was"}]),
            "invalid_request",
            "messages",
        ),
        (
            "llama",
            Conversation([{"role": "tool", "content": "It was"}]),
            "invalid_request",
            "messages",
        ),
        ("llama", says("Hello", tools=[TOOL]), "unsupported_parameter", "tools"),
        ("llama", says("Hello", thinking=True), "unsupported_parameter", "thinking"),
        ("qwen2", Conversation([{"content": "no role"}]), "invalid_request", "messages"),
    ],
)
def test_what_cannot_be_read_is_refused(
    architecture: str,
    prompt: Any,
    code: str,
    param: str,
    backend_of: Callable[[str], GeneratorBackend],
) -> None:
    error = refusal(backend_of(architecture), prompt)
    assert (error.code, error.param) == (code, param), error.message


def test_the_templates_own_words_are_told(backend_of: Callable[[str], GeneratorBackend]) -> None:
    error = refusal(backend_of("llama"), Conversation([{"role": "tool", "content": "x"}]))
    assert "Only the roles system, user and assistant are supported" in error.message


def test_a_model_without_a_template_only_continues(tmp_path: Path) -> None:
    backend = load(chat_model(tmp_path, "llama", template=None))
    assert refusal(backend, says("Hello")).code is ErrorCode.UNSUPPORTED_PARAMETER
    assert answer(backend, Plain("Hello")).finish.completion_tokens


# --- what was said, taken apart ------------------------------------------------------------------


def test_thoughts_are_told_apart(backend: GeneratorBackend) -> None:
    tokenizer = backend._words.tokenizer
    start, end = token_id(tokenizer, "<think>"), token_id(tokenizer, "</think>")
    forced = msgspec.structs.replace(GREEDY, max_tokens=12, logit_bias={start: 1000.0})
    assert answer(backend, says("Hello"), forced).reasoning == "<think>" * 11
    begun = says("Hello", "<think>\nWell", continues=True)
    ending = msgspec.structs.replace(GREEDY, max_tokens=5, logit_bias={end: 1000.0})
    heard = answer(backend, begun, ending)
    assert heard.reasoning == ""
    assert heard.text == "</think>" * 4
    assert heard.finish.reasoning_tokens == 1


def test_calls_are_looked_for_only_where_there_are_tools(backend: GeneratorBackend) -> None:
    tokenizer = backend._words.tokenizer
    mark = token_id(tokenizer, "<tool_call>")
    forced = msgspec.structs.replace(GREEDY, max_tokens=3, logit_bias={mark: 1000.0})
    assert answer(backend, says("Hello"), forced).text == "<tool_call>" * 3
    heard = answer(backend, says("Hello", tools=[TOOL]), forced)
    assert heard.text == "<tool_call>" * 3, "what is no call is text"
    assert heard.finish.reason == "length"
