"""Empty modules in the place of some that a library imports and that it never uses for us.

Importing transformers takes more than a second and 15 MiB, and mlx-lm wants two of its classes to
wrap tokenizers, which ours needs no wrapping of.

Invariants: what is imported already stays; afterwards an ordinary import finds the real module.
"""

import importlib
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType


class _LeftOut:
    """A class that can be named, inherited from and told of others."""

    @staticmethod
    def register(*_: object, **__: object) -> None:
        pass


def import_without(name: str, left_out: Mapping[str, Collection[str]]) -> ModuleType:
    """Import the module ``name``, which imports these names of these modules.

    If it wants more of them than that, as another version may, it gets the real ones.
    """
    try:
        with _standing_in(left_out):
            return importlib.import_module(name)
    except (ImportError, AttributeError):
        return importlib.import_module(name)


@contextmanager
def _standing_in(left_out: Mapping[str, Collection[str]]) -> Iterator[None]:
    empty = {
        module: _empty(module, names)
        for module, names in left_out.items()
        if module.partition(".")[0] not in sys.modules
    }
    sys.modules.update(empty)
    try:
        yield
    finally:
        for module in empty:
            del sys.modules[module]


def _empty(module: str, names: Collection[str]) -> ModuleType:
    made = ModuleType(module)
    for name in names:
        setattr(made, name, type(name, (_LeftOut,), {}))
    return made
