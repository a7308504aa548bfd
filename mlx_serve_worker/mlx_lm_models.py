"""The model classes of mlx-lm, without the rest of it.

Importing ``mlx_lm`` itself takes most of a second, brings transformers along, and lowers this
process's limit of open files to 2,048. Its model classes need nothing but MLX.
"""

import importlib
from types import ModuleType

from mlx_serve_worker.bare_packages import bare_package
from mlx_serve_worker.models.mlx_lm_speed import speed_up_mlx_lm


def mlx_lm_model(name: str) -> ModuleType:
    """The module of mlx-lm with the ``Model`` and ``ModelArgs`` of that name.

    ``name`` is one that our own code knows, never one from a model's files.
    """
    bare_package("mlx_lm")
    speed_up_mlx_lm()
    return importlib.import_module(f"mlx_lm.models.{name}")
