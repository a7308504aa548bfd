"""How many tokens a model takes at most, and who says so."""

import math
from collections.abc import Mapping

from mlx_serve_worker.architectures import Encoder
from mlx_serve_worker.repository import Repository, unfit
from mlx_serve_worker.tokenizer_settings import TOKENIZER_CONFIG


def longest_input(
    repository: Repository,
    folder: str,
    encoder: Encoder,
    setting: tuple[int | None, str],
    others: Mapping[str, int],
) -> tuple[int, str]:
    """As the reference: the setting wins over the tokenizer's; nothing exceeds positions.

    ``setting`` is what sentence-transformers was told, and in which file; ``others`` are further
    limits, by who sets them.
    """
    stated, settings_file = setting
    path = f"{folder}/" if folder else ""
    own = (repository.json(path + TOKENIZER_CONFIG) or {}).get("model_max_length")
    positions = f"{path}config.json: max_position_embeddings"
    limits = {positions: _positions(encoder, stated), **others}
    if stated is not None:
        limits[f"{settings_file}: max_seq_length"] = stated
    elif own is not None:
        if not isinstance(own, int | float) or not 0 < own < math.inf:
            raise unfit(f"{TOKENIZER_CONFIG} has an impossible model_max_length")
        limits[f"{path}{TOKENIZER_CONFIG}: model_max_length"] = int(own)
    rule = min(limits, key=limits.__getitem__)
    return limits[rule], rule


def _positions(encoder: Encoder, setting: int | None) -> int:
    """Where places are computed and not looked up, a setting may exceed what config.json says."""
    declared = getattr(encoder, "declared_positions", encoder.positions)
    return encoder.positions if setting is not None else min(declared, encoder.positions)
