"""A chat model and the files that hold its weights, brought together.

Invariants: the same way is gone at install time and in a worker; everything that headers tell is
checked before a value is read; it computes in the precision in which it is stored, as mlx-lm does,
or in float32 where that is much faster and there is memory for it.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from mlx_serve_common.models import Manifest
from mlx_serve_worker import chat_architectures, device, library_weights, weights
from mlx_serve_worker.model_folder import read_checked_manifest, read_config
from mlx_serve_worker.models.language_model import LanguageModel
from mlx_serve_worker.models.mlx_lm_speed import speed_up_mlx_lm
from mlx_serve_worker.quantization import quantize_stored
from mlx_serve_worker.widening import is_affordable, speed_up_half, unpack


class Assembled(NamedTuple):
    """Everything but the values."""

    model: LanguageModel
    located: weights.Located
    quantization: dict[str, Any] | None


def assemble(module: ModuleType, config: dict[str, Any], files: Sequence[Path]) -> Assembled:
    model = LanguageModel(module, config)
    stored = library_weights.stored_names(model, files)
    quantization = quantize_stored(model.model, config, stored, lambda name: name, is_widened=False)
    return Assembled(model, library_weights.locate(model, files), quantization)


def load_chat_model(
    folder: Path, custom_models: Path | None, *, widens: bool = False
) -> tuple[LanguageModel, Manifest]:
    """An installed model, ready to compute; ``widens`` if it may do so in float32."""
    device.configure()
    speed_up_mlx_lm()
    manifest = read_checked_manifest(folder)
    config = read_config(folder)
    module = chat_architectures.installed(config, manifest.implementation, custom_models)
    files = weights.weight_files(folder)
    model = assemble(module, config, files).model
    library_weights.fill(model, files, keep_half=device.current().computes_half or not widens)
    if widens:
        unpack(model.model)
    else:
        speed_up_half(model.model)
    return model, manifest


def load_for_trial(folder: Path, custom_models: Path | None) -> tuple[LanguageModel, Manifest]:
    """The same in a job, for which nobody has set memory aside."""
    return load_chat_model(
        folder, custom_models, widens=is_affordable(read_checked_manifest(folder))
    )
