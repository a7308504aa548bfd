"""Whether a model is to reason before it answers, and how much, as OpenAI's clients say it."""

from typing import Any, Literal, NamedTuple

from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.http.chat_abilities import require_thinking, thinks

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_KNOWN_TO_TEMPLATES = {"minimal": "low", "xhigh": "high", "max": "high"}
_SWITCHES = ("enable_thinking", "thinking")


class Reasoning(NamedTuple):
    """As a ``Conversation`` has it; None leaves it to the model."""

    thinking: bool | None
    effort: str | None


def reasoning(
    model: InstalledModel, effort: Effort | None, is_on: bool | None = None, *, param: str
) -> Reasoning:
    """``is_on`` decides; without it an effort switches reasoning on, and ``none`` off."""
    if is_on is None and effort is not None:
        is_on = effort != "none"
    if is_on:
        require_thinking(model, param)
    if not thinks(model):
        return Reasoning(None, None)
    if effort is None or effort == "none" or is_on is False:
        return Reasoning(is_on, None)
    return Reasoning(is_on, _KNOWN_TO_TEMPLATES.get(effort, effort))


def switch_in(variables: dict[str, Any]) -> bool | None:
    """Taken out of a template's variables: what it is called there is the model's affair."""
    found = [variables.pop(name) for name in _SWITCHES if isinstance(variables.get(name), bool)]
    return found[0] if found else None
