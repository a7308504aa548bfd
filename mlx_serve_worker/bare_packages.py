"""Packages whose modules are wanted, but not what importing the package itself brings along.

Invariants: after ``bare_package`` its modules can be imported while the package's ``__init__`` has
not run; it runs when something asks the package for a name, so a later ordinary import finds
everything in its place.
"""

import importlib.util
import sys
from types import ModuleType
from typing import Any


class _BarePackage(ModuleType):
    def __getattr__(self, name: str) -> Any:
        # Asked for by the import system, which must not start what is being avoided.
        if name.startswith("__") or self.__spec__ is None or self.__spec__.loader is None:
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def bare_package(name: str) -> None:
    """Let the modules of the top-level package ``name`` be imported without its ``__init__``."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no package named {name!r}", name=name)
    package = _BarePackage(name)
    package.__spec__ = spec
    package.__file__ = spec.origin
    package.__package__ = name
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = package
