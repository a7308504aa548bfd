"""Whether a repository's model embeds, reranks or chats.

Invariants: what files say of their model decides; a name decides only between the uses of a
language model, and the person who installs it only where neither files nor name say otherwise.
"""

from collections.abc import Sequence
from typing import Any

from mlx_serve_common.models import ModelKind
from mlx_serve_worker.families import known_family
from mlx_serve_worker.modules import MODULES_FILE
from mlx_serve_worker.repository import Repository, unfit
from mlx_serve_worker.reranker_inspection import judge_hint
from mlx_serve_worker.transformer_settings import PROMPTS_FILE

_GIVEN = "given at install time"
_LANGUAGE_MODEL = "ForCausalLM"


def decide_kind(
    repository: Repository,
    folder: str,
    config: dict[str, Any],
    names: Sequence[str],
    wanted: ModelKind | None,
) -> tuple[ModelKind, str]:
    """The kind and what makes the model one; refused if the person said something else."""
    stated, reason = _stated(repository, config)
    found = stated or ModelKind.EMBEDDING
    if stated is None and wanted is ModelKind.CHAT:
        found, reason = wanted, _GIVEN
    if found is ModelKind.CHAT and wanted is not ModelKind.CHAT:
        is_plain = class_name(config).endswith(_LANGUAGE_MODEL)
        if hint := judge_hint(repository, folder, names):
            found, reason = ModelKind.RERANKER, hint
        elif wanted is ModelKind.RERANKER or (wanted is ModelKind.EMBEDDING and is_plain):
            found, reason = wanted, _GIVEN
        elif wanted is None and is_plain and (known := known_family(*names)):
            found, reason = ModelKind.EMBEDDING, known.decided_by
    if wanted not in (None, found):
        raise unfit(f"this is not of type {wanted}: {reason} makes it {found}")
    return found, reason


def _stated(repository: Repository, config: dict[str, Any]) -> tuple[ModelKind | None, str]:
    """None for a class that says no more than that it is a model."""
    saved = (repository.json(PROMPTS_FILE) or {}).get("model_type")
    if saved is not None:
        kinds = {"SentenceTransformer": ModelKind.EMBEDDING, "CrossEncoder": ModelKind.RERANKER}
        if saved not in kinds:
            raise unfit(f"models of type {str(saved)[:64]!r} are not supported")
        return kinds[saved], f"{PROMPTS_FILE}: model_type"
    if repository.has(MODULES_FILE):
        return ModelKind.EMBEDDING, MODULES_FILE
    name = class_name(config)
    if name.endswith("ForSequenceClassification"):
        return ModelKind.RERANKER, f"config.json: {name}"
    if name.endswith((_LANGUAGE_MODEL, "LMHeadModel", "ForConditionalGeneration")):
        return ModelKind.CHAT, f"config.json: {name}"
    return None, f"config.json: {name}" if name else "nothing says otherwise"


def class_name(config: dict[str, Any]) -> str:
    """The class that config.json says its weights belong to, "" if it says none."""
    named = config.get("architectures")
    return str(named[0])[:80] if isinstance(named, list) and named else ""
