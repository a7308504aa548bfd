"""A repository's own files to a manifest: what the model is, and how that was decided.

Invariants: the result equals what sentence-transformers makes of the same files, or the repository
is refused with the reason; every choice is in ``decided`` with the file or the rule behind it.
"""

import datetime
import math
import re
from pathlib import Path
from typing import Any

import msgspec

from mlx_serve_common.models import Manifest, ModelKind, Step, TextNormalizer
from mlx_serve_worker import architectures, weights
from mlx_serve_worker.families import family
from mlx_serve_worker.modules import MODULES_FILE, read_folder_of_transformer, read_modules
from mlx_serve_worker.repository import Repository, unfit
from mlx_serve_worker.tokenization import TOKENIZER_FILE

_PROMPTS_FILE = "config_sentence_transformers.json"
# The first that exists counts, as in the reference.
_TRANSFORMER_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_TOKENIZER_FILES = (
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_MODEL_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_TEXT_MODALITY = {"method": "forward", "method_output_name": "last_hidden_state"}
_MAX_PROMPT_CHARACTERS = 64 * 1024


class Inspection(msgspec.Struct, frozen=True):
    """The manifest, except for what only copying the files tells, and the files to copy."""

    manifest: Manifest
    files: list[str]


def inspect(
    root: Path,
    *,
    name: str,
    kind: ModelKind | None = None,
    source: str | None = None,
    revision: str | None = None,
) -> Inspection:
    repository = Repository(root)
    has_modules = repository.has(MODULES_FILE)
    folder = read_folder_of_transformer(repository) if has_modules else ""
    config_file = _join(folder, "config.json")
    config = repository.json(config_file)
    if config is None:
        repository.refuse_without_safetensors(folder)
        raise unfit(f"there is no {config_file}")
    repository.refuse_code()
    decided: dict[str, str] = {}
    found_kind = _kind(repository, config, has_modules, kind, decided)
    architecture = _architecture(config, config_file, decided)
    repository.refuse_without_safetensors(folder)
    if not repository.has(_join(folder, TOKENIZER_FILE)):
        raise unfit(f"there is no {_join(folder, TOKENIZER_FILE)}")
    code = architectures.find(architecture)
    encoder = code.build(config)
    located = weights.locate(
        encoder, weights.weight_files(root / folder), code.parameter_name
    )
    if located.unknown:
        decided["unused_weights"] = ", ".join(sorted(located.unknown)[:20])
    steps, dimensions, module_files = _pipeline(repository, encoder.dimensions, source, name, decided)
    settings = _transformer_settings(repository, folder)
    prompts, default_prompt = _prompts(repository, decided)
    manifest = Manifest(
        name=name,
        kind=found_kind,
        architecture=architecture,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        source=source,
        revision=revision,
        dimensions=dimensions,
        max_tokens=_max_tokens(repository, folder, settings, encoder.positions, decided),
        lower_case=bool(settings.get("do_lower_case")),
        normalizer=_normalizer(repository, folder, architecture, decided),
        transformer_folder=folder,
        pipeline=steps,
        prompts=prompts,
        default_prompt=default_prompt,
        dtype=_dtype(located),
        weights_bytes=sum(path.stat().st_size for path in weights.weight_files(root / folder)),
        decided=decided,
    )
    return Inspection(manifest, _files(repository, folder, steps, module_files))
