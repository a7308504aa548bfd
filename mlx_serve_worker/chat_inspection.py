"""What makes a repository's model one to talk to.

Invariants: every decision is in ``decided``; the weights are those that the model's code expects,
in number, shape and type, before a value of them is read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_serve_common.models import ChatFacts
from mlx_serve_worker import chat_architectures
from mlx_serve_worker.chat_architectures import ChatCode
from mlx_serve_worker.chat_model import Assembled, assemble
from mlx_serve_worker.chat_settings import GENERATION_CONFIG, ChatSettings, read_chat_settings
from mlx_serve_worker.context_length import context_length
from mlx_serve_worker.conversation_memory import occupied
from mlx_serve_worker.models.language_model import LanguageModel
from mlx_serve_worker.quantization import refuse_foreign
from mlx_serve_worker.repository import Repository
from mlx_serve_worker.template_place import OLD_TEMPLATE_FILE, TEMPLATE_FILE

_WIDTHS = ("hidden_size", "n_embd", "d_model", "model_dim", "dim")
_FILES = (GENERATION_CONFIG, TEMPLATE_FILE, OLD_TEMPLATE_FILE)


class Chat(NamedTuple):
    """What a manifest needs to know."""

    code: ChatCode
    assembled: Assembled
    facts: ChatFacts
    max_tokens: int
    files: list[str]


def appraise_chat(
    repository: Repository,
    config: dict[str, Any],
    custom_models: Path | None,
    decided: dict[str, str],
) -> None:
    """Refuse what is unfit by its settings alone."""
    code = chat_architectures.choose(config, custom_models)
    refuse_foreign(config)
    LanguageModel(code.module, config)
    read_chat_settings(repository, config, decided)
    context_length(repository, config, decided)


def read_chat(
    repository: Repository,
    config: dict[str, Any],
    weight_files: Sequence[Path],
    custom_models: Path | None,
    decided: dict[str, str],
) -> Chat:
    code = chat_architectures.choose(config, custom_models)
    decided["architecture"] = code.decided_by
    settings = read_chat_settings(repository, config, decided)
    assembled = assemble(code.module, config, weight_files)
    facts = _facts(settings, assembled, config)
    return Chat(code, assembled, facts, context_length(repository, config, decided), list(_FILES))


def _facts(settings: ChatSettings, assembled: Assembled, config: Mapping[str, Any]) -> ChatFacts:
    model = assembled.model
    cache = model.new_cache()
    logits = model.logits(mx.zeros((1, 1), mx.int32), cache)  # only for their shapes
    memory = occupied(cache)
    item_bytes = assembled.located.item_bytes
    return ChatFacts(
        parameters=model.parameter_count(),
        width=_width(config),
        vocabulary=logits.shape[-1],
        template=settings.template,
        variables=sorted(settings.variables),
        tokens=settings.tokens,
        tool_parser=settings.tool_parser,
        thinking=settings.thinking,
        defaults=settings.defaults,
        ends=settings.ends,
        kv_bytes_per_token=None if memory is None else memory.per_token * item_bytes,
        kv_bytes_fixed=0 if memory is None else memory.fixed * item_bytes,
    )


def _width(config: Mapping[str, Any]) -> int | None:
    of_text = config.get("text_config")
    for part in (of_text if isinstance(of_text, dict) else {}, config):
        for key in _WIDTHS:
            if isinstance(part.get(key), int):
                return int(part[key])
    return None
