"""What mlx-lm makes of a model's files, so that ours is never another opinion.

Invariants: only asked, never given anything to import or run.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from mlx_serve_worker.mlx_lm_runtime import tokenizer_utils, utils


class Vocabulary(Protocol):
    """As much of a tokenizer as is looked at."""

    chat_template: str | None

    def get_vocab(self) -> dict[str, int]: ...

    def encode(self, text: str, add_special_tokens: bool) -> list[int]: ...


class Marks(NamedTuple):
    start: str
    end: str


def model_name(config: Mapping[str, Any]) -> str:
    """What the module would be called that has the model's class."""
    model_type = str(config.get("model_type"))
    named = config.get("architectures")
    for architecture in named if isinstance(named, list) else []:
        special = utils.MODEL_ARCHITECTURE_REMAPPING.get((model_type, str(architecture)))
        if special is not None:
            return special
    return utils.MODEL_REMAPPING.get(model_type, model_type)


def tool_parser(vocabulary: Vocabulary) -> str | None:
    """The name of the parser that reads the model's calls, if it makes any."""
    infer: Any = tokenizer_utils._infer_tool_parser
    name: str | None = infer(vocabulary)
    return name


def thought_marks(vocabulary: Vocabulary) -> Marks | None:
    """What the model writes around its thoughts, if it has any."""
    infer: Any = tokenizer_utils._infer_thinking
    start, end, _, _ = infer(vocabulary)
    return None if start is None else Marks(start, end)
