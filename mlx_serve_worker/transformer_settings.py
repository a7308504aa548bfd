"""The settings files of sentence-transformers beside ``modules.json``.

Invariants: a setting that changes vectors is either honoured or refused.
"""

from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from mlx_serve_worker.repository import Repository, unfit

PROMPTS_FILE = "config_sentence_transformers.json"
# The first that exists counts, as in the reference.
_SETTINGS_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)

Task = Literal["feature-extraction", "sequence-classification", "text-generation"]


class _Outputs(NamedTuple):
    """What the transformer computes for a task, and what the module calls it."""

    method: str
    module: str


_OUTPUTS: dict[str, _Outputs] = {
    "feature-extraction": _Outputs("last_hidden_state", "token_embeddings"),
    "sequence-classification": _Outputs("logits", "scores"),
    "text-generation": _Outputs("logits", "causal_logits"),
}
# Settings of other kinds of model, or of speed, that change no vector of ours.
_HARMLESS_MODEL_ARGUMENTS = {
    "add_pooling_layer", "attn_implementation", "device_map", "dtype", "low_cpu_mem_usage",
    "torch_dtype", "trust_remote_code", "use_safetensors",
}  # fmt: skip
_MAX_PROMPT_CHARACTERS = 16 * 1024


class TransformerSettings(msgspec.Struct, frozen=True):
    max_seq_length: Annotated[int, msgspec.Meta(ge=1)] | None = None
    do_lower_case: bool = False
    transformer_task: str = "feature-extraction"
    module_output_name: str | None = None
    modality_config: dict[str, Any] | None = None
    processing_kwargs: dict[str, Any] | None = None
    model_args: dict[str, Any] = {}
    model_kwargs: dict[str, Any] = {}
    tokenizer_args: dict[str, Any] = {}
    processor_kwargs: dict[str, Any] = {}
    config_args: dict[str, Any] = {}
    config_kwargs: dict[str, Any] = {}


def read_transformer_settings(
    repository: Repository, folder: str, task: Task = "feature-extraction"
) -> tuple[TransformerSettings, str]:
    """The settings of the transformer, and the file that has them ("" if there is none)."""
    for file in _SETTINGS_FILES:
        name = f"{folder}/{file}" if folder else file
        if config := repository.json(name):
            try:
                settings = msgspec.convert(config, TransformerSettings)
            except msgspec.ValidationError as error:
                raise unfit(f"{name}: {error}") from None
            _refuse_unsupported(settings, name, task)
            return settings, name
    return TransformerSettings(), ""


def _refuse_unsupported(settings: TransformerSettings, name: str, task: Task) -> None:
    if settings.transformer_task != task:
        raise unfit(f"{name}: the task {settings.transformer_task!r} is not supported here")
    outputs = _OUTPUTS[task]
    modality = settings.modality_config
    text = {"method": "forward", "method_output_name": outputs.method}
    if modality is not None and modality.get("text") != text:
        raise unfit(f"{name}: this modality_config is not supported")
    if settings.module_output_name not in (None, outputs.module):
        raise unfit(f"{name}: the output {settings.module_output_name!r} is not supported")
    processing = settings.processing_kwargs or {}
    # A language model's template is not used: the prompt that belongs to it is fixed.
    ignored = {"chat_template"} if task == "text-generation" else set()
    changes = {
        "processing_kwargs": any(value for key, value in processing.items() if key not in ignored),
        "model_args": not settings.model_args.keys() <= _HARMLESS_MODEL_ARGUMENTS,
        "model_kwargs": not settings.model_kwargs.keys() <= _HARMLESS_MODEL_ARGUMENTS,
        "tokenizer_args": not settings.tokenizer_args.keys() <= _HARMLESS_MODEL_ARGUMENTS,
        "processor_kwargs": not settings.processor_kwargs.keys() <= _HARMLESS_MODEL_ARGUMENTS,
        "config_args": not settings.config_args.keys() <= _HARMLESS_MODEL_ARGUMENTS,
        "config_kwargs": not settings.config_kwargs.keys() <= _HARMLESS_MODEL_ARGUMENTS,
    }
    if unsupported := [key for key, changed in changes.items() if changed]:
        raise unfit(f"{name}: {unsupported[0]} is not supported")


def read_prompts(
    repository: Repository, decided: dict[str, str]
) -> tuple[dict[str, str], str | None]:
    """The prompts by name, and the name of the one that every text gets if none is chosen."""
    config = repository.json(PROMPTS_FILE) or {}
    prompts = config.get("prompts") or {}
    default = config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not (default is None or isinstance(default, str)):
        raise unfit(f"{PROMPTS_FILE} has prompts that cannot be read")
    texts = {name: "" if text is None else text for name, text in prompts.items()}
    if any(not isinstance(text, str) for text in texts.values()):
        raise unfit(f"{PROMPTS_FILE} has a prompt that is no text")
    if sum(len(text) for text in texts.values()) > _MAX_PROMPT_CHARACTERS:
        raise unfit(f"{PROMPTS_FILE} has prompts of more than {_MAX_PROMPT_CHARACTERS} characters")
    # The reference has these two names even where a repository does not mention them.
    if default is not None and default not in {*texts, "query", "document"}:
        raise unfit(f"{PROMPTS_FILE} names a default prompt {default[:80]!r} that it does not have")
    if texts:
        decided["prompts"] = PROMPTS_FILE
    return texts, default
