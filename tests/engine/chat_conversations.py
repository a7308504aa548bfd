"""What the tiny chat models are told; the golden values belong to exactly this."""

from typing import Any

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}

_HELLO = {"role": "user", "content": "Hello, 오늘 서울의 날씨는 어때요? 👍🏽"}
_CALL = {"function": {"name": "weather", "arguments": {"city": "서울"}}, "type": "function"}

CONVERSATIONS: dict[str, dict[str, Any]] = {
    "question": {"messages": [_HELLO]},
    "several": {
        "messages": [
            {"role": "system", "content": "Answer briefly."},
            {"role": "user", "content": "def add(a, b):"},
            {"role": "assistant", "content": "return a + b"},
            {"role": "user", "content": "And now?"},
        ]
    },
    "tools": {"messages": [_HELLO], "tools": [WEATHER]},
    "call": {
        "messages": [
            _HELLO,
            {"role": "assistant", "content": "", "tool_calls": [_CALL]},
            {"role": "tool", "content": '{"sky": "clear"}'},
        ],
        "tools": [WEATHER],
    },
    "no-thinking": {"messages": [_HELLO], "enable_thinking": False},
}
"""By name, the variables of a template."""

KNOWN = {
    "qwen3": list(CONVERSATIONS),
    "qwen2": ["question", "several", "tools", "call"],
    "llama": ["question", "several"],
}
"""What each kind of model can be told."""
