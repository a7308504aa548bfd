"""How long a conversation with a chat model may be, in tokens, and who says so."""

from collections.abc import Iterator, Mapping
from typing import Any

from mlx_serve_worker.repository import Repository, unfit
from mlx_serve_worker.tokenizer_settings import TOKENIZER_CONFIG

# In config.json, by the many names that architectures have for it.
_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_sequence_length",
    "max_seq_len",
    "max_context_length",
    "seq_length",
    "model_max_length",
)
# Larger ones stand for "no limit" in many repositories.
_PLAUSIBLE = 2**24
_UNSTATED = 32768


def context_length(
    repository: Repository, config: Mapping[str, Any], decided: dict[str, str]
) -> int:
    for place, part in _parts(config):
        for key in _KEYS:
            if (stated := part.get(key)) is not None:
                decided["max_tokens"] = f"{place}: {key}"
                return _stretched(_checked(stated, key), part, decided)
    own = (repository.json(TOKENIZER_CONFIG) or {}).get("model_max_length")
    if isinstance(own, int | float) and 0 < own <= _PLAUSIBLE:
        decided["max_tokens"] = f"{TOKENIZER_CONFIG}: model_max_length"
        return int(own)
    decided["max_tokens"] = "no file states a limit; this is ours"
    return _UNSTATED


def _parts(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(of_text := config.get("text_config"), dict):
        yield "config.json: text_config", of_text
    yield "config.json", config


def _stretched(length: int, part: Mapping[str, Any], decided: dict[str, str]) -> int:
    """Positions may be stretched beyond what config.json states, where it says from which."""
    scaling = part.get("rope_scaling") or part.get("rope_parameters") or {}
    if not isinstance(scaling, dict) or scaling.get("rope_type", scaling.get("type")) != "yarn":
        return length
    original, factor = scaling.get("original_max_position_embeddings"), scaling.get("factor")
    if not isinstance(original, int) or not isinstance(factor, int | float):
        return length
    if not length < (stretched := int(original * factor)) <= _PLAUSIBLE:
        return length
    decided["max_tokens"] = "config.json: rope_scaling stretches the positions"
    return stretched


def _checked(value: object, key: str) -> int:
    if not isinstance(value, int) or not 0 < value <= _PLAUSIBLE:
        raise unfit(f"config.json has an impossible {key}")
    return value
