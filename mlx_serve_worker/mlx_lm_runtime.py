"""How mlx-lm runs language models: the only module that imports that part of it.

Invariants: importing this leaves the process's limits as they were; of the parsers that mlx-lm
brings only those are imported that the manifest can name, never one that a model's files name.
"""

import importlib
import os
import resource
from collections.abc import Callable
from typing import Any, NamedTuple

from mlx_serve_common.models import ToolParser
from mlx_serve_worker.bare_packages import bare_package
from mlx_serve_worker.stand_ins import import_without

_LEFT_OUT = {
    "transformers": ("AutoTokenizer", "PreTrainedTokenizer", "PreTrainedTokenizerFast"),
    "transformers.tokenization_utils_base": ("PreTrainedTokenizerBase",),
    "huggingface_hub": ("snapshot_download",),
}
"""For its own way from a model's name to its files and its tokenizer."""


def _import() -> None:
    # mlx_lm.utils sets the number of open files to 2,048, and fails where 4,096 are not allowed.
    set_limit = resource.setrlimit
    resource.setrlimit = lambda *_: None
    # transformers would tell on the way that there is no torch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        bare_package("mlx_lm")
        import_without("mlx_lm.generate", _LEFT_OUT)
    finally:
        resource.setrlimit = set_limit


_import()

from mlx_lm import tokenizer_utils, utils  # noqa: E402
from mlx_lm.generate import BatchGenerator as _BatchGenerator  # noqa: E402
from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache  # noqa: E402
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p  # noqa: E402

BatchGenerator: Any = _BatchGenerator
"""It has types for some of its methods only."""

__all__ = [
    "BatchGenerator",
    "CallFormat",
    "apply_min_p",
    "apply_top_k",
    "apply_top_p",
    "call_format",
    "can_trim_prompt_cache",
    "tokenizer_utils",
    "trim_prompt_cache",
    "utils",
]


class CallFormat(NamedTuple):
    """How a model writes that it calls a tool."""

    start: str
    end: str
    """Empty if a call goes on to the end of the answer."""
    parse: Callable[[str, list[dict[str, Any]]], Any]
    """Raises whatever it likes if the text is no call."""


def call_format(name: ToolParser) -> CallFormat:
    module = importlib.import_module(f"mlx_lm.tool_parsers.{name}")
    return CallFormat(module.tool_call_start, module.tool_call_end, module.parse_tool_call)
