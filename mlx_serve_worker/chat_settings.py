"""What a repository's small files say of talking to its model: template, tools, thoughts, defaults.

Invariants: tools and thoughts are found as mlx-lm finds them in the same files, and only in ways
that it knows; a setting that makes no sense is an error; a template is parsed, never run.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, get_args

import msgspec
from tokenizers import Tokenizer

from mlx_serve_common.models import GenerationDefaults, Thinking, ToolParser
from mlx_serve_worker.chat.template import ChatTemplate
from mlx_serve_worker.repository import Repository, unfit
from mlx_serve_worker.template_place import read_template
from mlx_serve_worker.tokenizer_file import TOKENIZER_FILE, read_tokenizer
from mlx_serve_worker.tokenizer_settings import SPECIAL_TOKENS, TOKENIZER_CONFIG

GENERATION_CONFIG = "generation_config.json"
_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
)
_SWITCHES = ("enable_thinking", "thinking")
# Of what mlx-lm would otherwise import by a name in the file.
_TEMPLATE_TYPES = ("deepseek_v32", "muse_spark")


class ChatSettings(NamedTuple):
    template: str | None
    variables: frozenset[str]
    tokens: dict[str, str]
    tool_parser: ToolParser | None
    thinking: Thinking | None
    defaults: GenerationDefaults
    ends: list[int]


def read_chat_settings(
    repository: Repository, config: Mapping[str, Any], decided: dict[str, str]
) -> ChatSettings:
    tokenizer = read_tokenizer(repository.root / TOKENIZER_FILE)
    settings = repository.json(TOKENIZER_CONFIG) or {}
    generation = repository.json(GENERATION_CONFIG) or {}
    template = read_template(repository, decided)
    tokens = _tokens(repository, settings)
    variables = frozenset(() if template is None else ChatTemplate(template, {}).variables)
    seen = _Seen(tokenizer, template)
    return ChatSettings(
        template,
        variables,
        tokens,
        _tool_parser(seen, settings, decided),
        _thinking(seen, variables, decided),
        _defaults(generation, decided),
        _ends(tokenizer, tokens, generation, config, decided),
    )


def _tokens(repository: Repository, settings: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens by what they are for, as transformers finds them."""
    if "added_tokens_decoder" not in settings:
        settings = {**settings, **(repository.json(SPECIAL_TOKENS) or {})}
    stated = {name: settings.get(name) for name in _TOKENS}
    texts = {
        name: token.get("content") if isinstance(token, dict) else token
        for name, token in stated.items()
    }
    return {name: text for name, text in texts.items() if isinstance(text, str)}


class _Seen:
    """As much of a tokenizer as mlx-lm looks at."""

    def __init__(self, tokenizer: Tokenizer, template: str | None) -> None:
        self.chat_template: str | None = template
        self._tokenizer = tokenizer
        self._vocabulary = tokenizer.get_vocab()

    def get_vocab(self) -> dict[str, int]:
        return self._vocabulary

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)


def _tool_parser(
    seen: _Seen, settings: Mapping[str, Any], decided: dict[str, str]
) -> ToolParser | None:
    from mlx_serve_worker import mlx_lm_rules  # all of mlx-lm comes with it

    for key, known in (
        ("tool_parser_type", get_args(ToolParser)),
        ("chat_template_type", _TEMPLATE_TYPES),
    ):
        if settings.get(key) not in (None, *known):
            raise unfit(f"{TOKENIZER_CONFIG}: {key} {str(settings[key])[:40]!r} is not known")
    if seen.chat_template is None:
        return None
    if stated := settings.get("tool_parser_type"):
        decided["tool_parser"] = f"{TOKENIZER_CONFIG}: tool_parser_type"
        return _as_parser(stated)
    found = mlx_lm_rules.tool_parser(seen)
    if found not in get_args(ToolParser):
        return None
    decided["tool_parser"] = f"the chat template or vocabulary has the marks of {found}"
    return _as_parser(found)


def _as_parser(name: object) -> ToolParser:
    parser: ToolParser = msgspec.convert(name, ToolParser)
    return parser


def _thinking(seen: _Seen, variables: frozenset[str], decided: dict[str, str]) -> Thinking | None:
    """Only where the template knows of it: vocabularies are shared with models that do not."""
    from mlx_serve_worker import mlx_lm_rules

    marks = mlx_lm_rules.thought_marks(seen)
    template = seen.chat_template or ""
    switch = next((name for name in _SWITCHES if name in variables), None)
    if marks is None or not (switch or any(mark in template for mark in marks)):
        return None
    decided["thinking"] = f"the vocabulary has {marks.start!r}, the chat template knows of it"
    return Thinking(marks.start, marks.end, switch)


# --- generation_config.json ----------------------------------------------------------------------

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Generation(msgspec.Struct):
    do_sample: bool | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    top_p: _Share | None = None
    top_k: int | None = None
    min_p: _Share | None = None
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None


def _defaults(generation: dict[str, Any], decided: dict[str, str]) -> GenerationDefaults:
    try:
        stated = msgspec.convert(generation, _Generation)
    except msgspec.ValidationError as error:
        raise unfit(f"{GENERATION_CONFIG}: {error}") from None
    found = GenerationDefaults(
        temperature=0.0 if stated.do_sample is False else stated.temperature,
        top_p=stated.top_p or None,
        top_k=stated.top_k if (stated.top_k or 0) > 0 else None,
        min_p=stated.min_p or None,
        repetition_penalty=stated.repetition_penalty,
    )
    if found != GenerationDefaults():
        decided["defaults"] = GENERATION_CONFIG
    return found


def _ends(
    tokenizer: Tokenizer,
    tokens: Mapping[str, str],
    generation: Mapping[str, Any],
    config: Mapping[str, Any],
    decided: dict[str, str],
) -> list[int]:
    """As mlx-lm: those of generation_config.json or else config.json, and the tokenizer's own."""
    of_text = config.get("text_config")
    places = {
        GENERATION_CONFIG: generation,
        "config.json": config,
        "config.json: text_config": of_text if isinstance(of_text, dict) else {},
    }
    found: dict[str, list[int]] = {}
    for place, values in places.items():
        if (stated := values.get("eos_token_id")) is not None:
            found[place] = _ids(stated)
            break
    own = tokenizer.token_to_id(tokens.get("eos_token", ""))
    if own is not None:
        found[TOKENIZER_CONFIG] = [own]
    decided["ends"] = ", ".join(found) or "no file names a token that ends an answer"
    return sorted({id for ids in found.values() for id in ids})


def _ids(stated: object) -> list[int]:
    ids: list[Any] = stated if isinstance(stated, list) else [stated]
    if not all(isinstance(id, int) and id >= 0 for id in ids):
        raise unfit("eos_token_id is no token id, nor a list of them")
    return ids
