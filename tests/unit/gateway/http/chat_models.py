"""Chat models of several abilities, and what they say."""

from typing import Any

import msgspec

from mlx_serve_common.chat import Finish
from mlx_serve_common.models import ChatFacts, GenerationDefaults, Thinking

ABLE = ChatFacts(
    parameters=1,
    width=8,
    vocabulary=16,
    template="{{ messages }}{{ tools }}",
    variables=["messages", "tools", "enable_thinking"],
    tokens={},
    tool_parser="json_tools",
    thinking=Thinking("<think>", "</think>", "enable_thinking"),
    defaults=GenerationDefaults(),
    ends=[0],
    kv_bytes_per_token=1,
)
SIMPLE = msgspec.structs.replace(ABLE, variables=["messages"], tool_parser=None, thinking=None)
BARE = msgspec.structs.replace(SIMPLE, template=None, variables=[])

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def finish(**changes: Any) -> Finish:
    """An answer of three tokens to a prompt of five, of which two were known."""
    end = Finish("stop", None, 5, 2, 3, 0, 0.25, 0.5)
    return msgspec.structs.replace(end, **changes)
