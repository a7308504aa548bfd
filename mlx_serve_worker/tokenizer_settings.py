"""What a repository's small files say of its tokenizer, beside ``tokenizer.json`` itself.

Invariants: the files are read in the reference's order, and the choice is in ``decided``.
"""

from typing import Any

import msgspec

from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_worker.repository import Repository, unfit
from mlx_serve_worker.tokenizer_classes import fits, text_normalizer, tokenizer_class
from mlx_serve_worker.tokenizer_file import MAX_TOKENIZER_BYTES, TOKENIZER_FILE

TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"


def read_tokenizer_class(
    repository: Repository, folder: str, model_type: str, decided: dict[str, str]
) -> dict[str, Any]:
    """The fields of a manifest that say what the class lays down; none if it lays down nothing.

    A class that cannot use the file at all is passed over, as older versions of the reference do;
    newer ones make nonsense of such a model.
    """

    def read(name: str) -> dict[str, Any]:
        return repository.json(f"{folder}/{name}" if folder else name) or {}

    settings = read(TOKENIZER_CONFIG)
    named = settings.get("tokenizer_class") or read("config.json").get("tokenizer_class")
    if "added_tokens_decoder" not in settings:
        settings = {**settings, **read(SPECIAL_TOKENS)}
    found = tokenizer_class(model_type, {**settings, "tokenizer_class": named})
    if found is None:
        return {}
    if not fits(found, _model(repository, folder)):
        decided["tokenizer"] = f"{TOKENIZER_FILE} as it is: it is not for a {found.name}"
        return {}
    normalizer = text_normalizer(found, settings)
    source = f"{folder}/{TOKENIZER_CONFIG}" if folder else TOKENIZER_CONFIG
    decided["normalizer" if normalizer else "tokenizer"] = (
        f"{source if named else f'model_type {model_type}'}: {found.name}"
    )
    return {"tokenizer": found, "normalizer": normalizer}


class _Model(msgspec.Struct):
    type: str | None = None


class _File(msgspec.Struct):
    model: _Model


def _model(repository: Repository, folder: str) -> str | None:
    """The kind of vocabulary in the file."""
    name = f"{folder}/{TOKENIZER_FILE}" if folder else TOKENIZER_FILE
    if repository.size(name) > MAX_TOKENIZER_BYTES:
        raise unfit(f"{name} is larger than {MAX_TOKENIZER_BYTES // 1024**2} MiB")
    try:
        return msgspec.json.decode((repository.root / name).read_bytes(), type=_File).model.type
    except OSError as error:
        raise unfit(f"{name} cannot be read: {error.strerror}") from None
    except UNDECODABLE:
        raise unfit(f"{name} is damaged") from None
