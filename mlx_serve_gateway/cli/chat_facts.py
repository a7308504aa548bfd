"""What is known of talking to a model, as lines for people."""

import msgspec

from mlx_serve_common.models import ChatFacts, Thinking
from mlx_serve_gateway.cli.units import size_text


def chat_lines(facts: ChatFacts | None) -> list[tuple[str, str]]:
    """Names and facts of a chat model; none of any other."""
    if facts is None:
        return []
    return [
        ("parameters", f"{facts.parameters:,}"),
        ("chat template", "yes" if facts.has_template else "no: it only continues texts"),
        ("tools", f"yes, written as {facts.tool_parser}" if facts.does_tools else "no"),
        ("thinking", _thinking(facts.thinking)),
        *_defaults(facts),
        ("conversation", _memory(facts)),
    ]


def _thinking(thinking: Thinking | None) -> str:
    if thinking is None:
        return "no"
    if thinking.variable is None:
        return "yes, always"
    return f"yes, unless {thinking.variable} is false"


def _defaults(facts: ChatFacts) -> list[tuple[str, str]]:
    stated = msgspec.to_builtins(facts.defaults)
    told = ", ".join(f"{name} {value}" for name, value in stated.items())
    return [("defaults", told)] if told else []


def _memory(facts: ChatFacts) -> str:
    if facts.kv_bytes_per_token is None:
        return "takes an unknown amount of memory"
    fixed = f" and {size_text(facts.kv_bytes_fixed)}" if facts.kv_bytes_fixed else ""
    return f"takes {size_text(facts.kv_bytes_per_token)} of memory for each token{fixed}"
