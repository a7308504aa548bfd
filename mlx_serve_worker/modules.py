"""``modules.json`` of sentence-transformers to the steps of a manifest.

Invariants: modules are taken in the order of the file; what a module's settings would change and
we cannot do is refused, because leaving it out would give wrong vectors without a word.
"""

from typing import Any, NamedTuple, cast, get_args

from mlx_serve_common.models import Dense, Normalize, Pooling, PoolingMode, Step
from mlx_serve_worker import weights
from mlx_serve_worker.models.activations import torch_activation
from mlx_serve_worker.repository import Repository, safe_folder, unfit

MODULES_FILE = "modules.json"

_MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)
# Older repositories have one switch per mode; the vectors are joined in this order.
_SWITCHES: tuple[tuple[str, PoolingMode], ...] = (
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
)
_POOLED = "sentence_embedding"


class Modules(NamedTuple):
    """The steps after the transformer, what comes out, and the files that were needed."""

    steps: list[Step]
    dimensions: int
    files: list[str]
    decided: dict[str, str]


def transformer_folder(repository: Repository) -> str:
    """Where the first module, the transformer itself, has its files: mostly at the top."""
    modules = repository.json_list(MODULES_FILE) or []
    if not modules or _class_name(modules[0]) != "Transformer":
        raise unfit(f"{MODULES_FILE} does not begin with a Transformer")
    return _folder(modules[0])


def later_modules(repository: Repository) -> list[tuple[str, str]]:
    """The class and the folder of each module after the transformer."""
    modules = repository.json_list(MODULES_FILE) or []
    return [(_class_name(module), _folder(module)) for module in modules[1:]]


def read_modules(repository: Repository, width: int) -> Modules:
    """The modules after the transformer, whose token vectors are ``width`` wide."""
    read = Modules([], width, [], {})
    for module in (repository.json_list(MODULES_FILE) or [])[1:]:
        read = _read_module(repository, module, read)
    if not read.steps:
        raise unfit(f"{MODULES_FILE} has no Pooling: the model gives no vector for a text")
    return read


def _read_module(repository: Repository, module: Any, read: Modules) -> Modules:
    kind = _class_name(module)
    if kind == "Dropout":
        return read
    folder = _folder(module)
    config_file = f"{folder}/config.json" if folder else ""
    config = (repository.json(config_file) if folder else None) or {}
    files = [config_file] if config else []
    if kind == "Pooling":
        if read.steps:
            raise unfit(f"{MODULES_FILE} has a Pooling after another module")
        pooling = _pooling(config, config_file, read.dimensions)
        return read._replace(
            steps=[*read.steps, pooling],
            dimensions=read.dimensions * len(pooling.modes),
            files=read.files + files,
            decided={**read.decided, "pooling": config_file},
        )
    _refuse_other_features(config, config_file)
    if not read.steps:
        raise unfit(f"{MODULES_FILE} has {kind} before a Pooling, which is not supported")
    if kind == "Normalize":
        return read._replace(
            steps=[*read.steps, Normalize()],
            files=read.files + files,
            decided={**read.decided, "normalize": MODULES_FILE},
        )
    if kind == "Dense":
        step, outputs = _dense(config, config_file, folder, read.dimensions)
        weight_files = weights.weight_files(repository.root / folder)
        if not weight_files:
            repository.refuse_without_safetensors(folder)
        files += [f"{folder}/{path.name}" for path in weight_files]
        return read._replace(
            steps=[*read.steps, step],
            dimensions=outputs,
            files=read.files + files,
            decided={**read.decided, "dense": config_file},
        )
    raise unfit(f"{MODULES_FILE} has a module of type {kind[:80]!r}, which is not supported")


def _class_name(module: Any) -> str:
    path = module.get("type") if isinstance(module, dict) else None
    if not isinstance(path, str) or not path.startswith("sentence_transformers."):
        raise unfit(f"{MODULES_FILE} has a module of type {str(path)[:80]!r}: code of its own")
    return path.rpartition(".")[2]


def _folder(module: Any) -> str:
    path = module.get("path")
    return "" if path in ("", None) else safe_folder(path)


def _pooling(config: dict[str, Any], config_file: str, width: int) -> Pooling:
    declared = config.get("embedding_dimension", config.get("word_embedding_dimension"))
    if declared != width:
        raise unfit(f"{config_file} pools vectors of {declared} dimensions, the model has {width}")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for switch, mode in _SWITCHES if config.get(switch)] or ["mean"]
    elif isinstance(modes, str):
        modes = [modes]
    if not isinstance(modes, list) or not modes or any(mode not in _MODES for mode in modes):
        raise unfit(f"{config_file} pools by {str(modes)[:80]}, which is not supported")
    return Pooling(cast(list[PoolingMode], modes), bool(config.get("include_prompt", True)))


def _dense(config: dict[str, Any], config_file: str, folder: str, width: int) -> tuple[Dense, int]:
    inputs, outputs = config.get("in_features"), config.get("out_features")
    if inputs != width or not isinstance(outputs, int) or outputs < 1:
        raise unfit(f"{config_file} maps {inputs} dimensions to {outputs}, the model has {width}")
    if config.get("use_residual"):
        raise unfit(f"{config_file} adds its input (use_residual), which is not supported")
    path = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    return Dense(folder, torch_activation(str(path))), outputs


def _refuse_other_features(config: dict[str, Any], config_file: str) -> None:
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, _POOLED):
            raise unfit(f"{config_file} has {key} {config[key]!r}, which is not supported")
