"""What makes a repository's model a reranker, and how it scores.

Invariants: a model whose scores would not be those of its reference is refused; what counts as
"fits" is told in ``decided``.
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import mlx.nn as nn

from mlx_serve_common.models import Classifier, Head, YesOrNo
from mlx_serve_worker import weights
from mlx_serve_worker.architectures import Encoder
from mlx_serve_worker.judge_prompt import INSTRUCTION, MAX_TOKENS, SYSTEM
from mlx_serve_worker.models.classification import ClassificationModel
from mlx_serve_worker.models.judge import JudgeModel
from mlx_serve_worker.modules import MODULES_FILE, later_modules
from mlx_serve_worker.repository import Repository, unfit
from mlx_serve_worker.tokenizer_classes import tokenizer_class
from mlx_serve_worker.tokenizer_file import TOKENIZER_FILE, read_tokenizer
from mlx_serve_worker.transformer_settings import (
    Task,
    TransformerSettings,
    read_prompts,
    read_transformer_settings,
)

_CLASSIFIER = "ForSequenceClassification"
_LANGUAGE_MODEL = "ForCausalLM"
_JUDGE = "qwen3"
_TYPED_CLASSES = ("BertTokenizer", "DebertaV2Tokenizer")
_TOKENIZER_CONFIG = "tokenizer_config.json"
_TEMPLATE_FILE = "chat_template.jinja"


class Saved(NamedTuple):
    """What sentence-transformers has written down besides; it reads it through modules.json."""

    settings: TransformerSettings
    settings_file: str
    prompts: dict[str, str]
    default_prompt: str | None


class Reranker(NamedTuple):
    """What a manifest needs to know, and a model to find the weights of."""

    model: nn.Module
    parameter_name: weights.Rename
    encoder: Encoder
    head: Head
    limits: dict[str, int]
    """Other bounds of its inputs than positions, by who sets them."""
    saved: Saved
    files: list[str]


def judge_hint(repository: Repository, folder: str, names: Iterable[str]) -> str | None:
    """Why a language model is one that was trained to judge documents, if anything says so."""
    for name in names:
        if "reranker" in name.lower():
            return f"the name {name!r}"
    template = _template(repository, folder)
    return "the chat template of Qwen3-Reranker" if SYSTEM in template else None


def read_reranker(
    repository: Repository, folder: str, config: dict[str, Any], decided: dict[str, str]
) -> Reranker:
    named = config.get("architectures")
    name = str(named[0])[:80] if isinstance(named, list) and named else ""
    if name.endswith(_LANGUAGE_MODEL):
        return _judge(repository, folder, config, decided)
    if name.endswith(_CLASSIFIER):
        return _cross_encoder(repository, folder, config, decided)
    raise unfit(f"config.json: {name or 'a model without architectures'} has no head for scores")


def _saved(repository: Repository, folder: str, task: Task, decided: dict[str, str]) -> Saved:
    if not repository.has(MODULES_FILE):
        return Saved(TransformerSettings(), "", {}, None)
    settings, settings_file = read_transformer_settings(repository, folder, task)
    return Saved(settings, settings_file, *read_prompts(repository, decided))


# --- cross-encoders ------------------------------------------------------------------------------


def _cross_encoder(
    repository: Repository, folder: str, config: dict[str, Any], decided: dict[str, str]
) -> Reranker:
    if later := later_modules(repository):
        raise unfit(f"{MODULES_FILE} has {later[0][0]} after the classifier: not supported")
    saved = _saved(repository, folder, "sequence-classification", decided)
    labels = _labels(config, decided)
    model = ClassificationModel(str(config.get("model_type")), config, labels)
    return Reranker(
        model=model,
        parameter_name=model.parameter_name,
        encoder=model.encoder,
        head=Classifier(labels, _reads_types(repository, folder, config, decided)),
        limits={},
        saved=saved,
        files=[],
    )


def _labels(config: dict[str, Any], decided: dict[str, str]) -> Literal[1, 2]:
    named = config.get("id2label")
    count = len(named) if isinstance(named, dict) else config.get("num_labels", 2)
    if count == 1:
        decided["score"] = "config.json: one label; the sigmoid of its logit"
        return 1
    if count == 2:
        positive = named.get("1") if isinstance(named, dict) else None
        decided["score"] = f"config.json: two labels; the probability of label 1, {positive!r}"
        return 2
    raise unfit(f"config.json has {count} labels; a reranker has one, or two (no and yes)")


def _reads_types(
    repository: Repository, folder: str, config: dict[str, Any], decided: dict[str, str]
) -> bool:
    """Whether the tokenizer tells the reference which text of the pair a token is of."""
    file = f"{folder}/{_TOKENIZER_CONFIG}" if folder else _TOKENIZER_CONFIG
    settings = repository.json(file) or {}
    names = settings.get("model_input_names")
    if isinstance(names, list):
        decided["token_types"] = f"{file}: model_input_names"
        return "token_type_ids" in names
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    found = tokenizer_class(str(config.get("model_type")), {**settings, "tokenizer_class": named})
    decided["token_types"] = f"the tokenizer class, {named or (found and found.name)!r}"
    return found is not None and found.name in _TYPED_CLASSES


# --- language models -----------------------------------------------------------------------------


def _judge(
    repository: Repository, folder: str, config: dict[str, Any], decided: dict[str, str]
) -> Reranker:
    if config.get("model_type") != _JUDGE:
        raise unfit(
            f"config.json: language models of type {config.get('model_type')!r} cannot be served as"
            " rerankers; Qwen3-Reranker can"
        )
    saved = _saved(repository, folder, "text-generation", decided)
    template = _template(repository, folder) if repository.has(MODULES_FILE) else ""
    if template and SYSTEM not in template:
        raise unfit("the chat template does not ask the question of Qwen3-Reranker")
    model = JudgeModel(config)
    head, files = _answers(repository, folder)
    if instruction := saved.prompts.get(saved.default_prompt or ""):
        decided["instruction"] = "the default prompt"
    else:
        decided["instruction"] = "the model card"
    decided["score"] = 'the probability of "yes" against "no" as the next token'
    return Reranker(
        model=model,
        parameter_name=model.parameter_name,
        encoder=model.decoder,
        head=YesOrNo(*head, instruction or INSTRUCTION),
        limits={"the model card": MAX_TOKENS},
        saved=saved._replace(prompts={}, default_prompt=None),
        files=files,
    )


def _answers(repository: Repository, folder: str) -> tuple[tuple[int, int], list[str]]:
    """The ids of yes and no, and the file that names them."""
    path = f"{folder}/{TOKENIZER_FILE}" if folder else TOKENIZER_FILE
    tokenizer = read_tokenizer(repository.root / path)
    yes, no = tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")
    if yes is None or no is None:
        raise unfit('the tokenizer has no token for "yes" or for "no"')
    later = later_modules(repository) if repository.has(MODULES_FILE) else []
    if not later:
        return (yes, no), []
    (name, module), *others = later
    if name != "LogitScore" or others:
        raise unfit(f"{MODULES_FILE} has a module of type {name!r}, which is not supported")
    file = f"{module}/config.json"
    config = repository.json(file) or {}
    if (config.get("true_token_id"), config.get("false_token_id")) != (yes, no):
        raise unfit(f'{file} does not score by the tokens "yes" and "no"')
    return (yes, no), [file]


def _template(repository: Repository, folder: str) -> str:
    """The chat template, "" if there is none."""
    path = f"{folder}/" if folder else ""
    if repository.has(f"{path}{_TEMPLATE_FILE}"):
        return repository.text(f"{path}{_TEMPLATE_FILE}")
    config = repository.json(f"{path}{_TOKENIZER_CONFIG}") or {}
    template = config.get("chat_template")
    return template if isinstance(template, str) else ""
