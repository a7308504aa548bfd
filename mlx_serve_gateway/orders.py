"""What a person or a client wants pulled or quantized, as the arguments of the job that does it.

Pure. Invariants: what is installed already is pulled again as what it is: the same repository, name
and conversion; a name that says no repository without doubt is no order.
"""

import contextlib
from pathlib import Path

import msgspec

from mlx_serve_common.config import Config
from mlx_serve_common.conversion import Conversion
from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_common.names import check_name
from mlx_serve_common.references import Reference, read_reference
from mlx_serve_gateway.registry import Registry


class Pull(msgspec.Struct, frozen=True, kw_only=True):
    reference: Reference
    name: str | None = None
    """Of the model here; None for the one that follows from the rest."""
    kind: ModelKind | None = None
    conversion: Conversion | None = None
    replace: bool = False

    @property
    def installed_name(self) -> str:
        if self.name is not None:
            return check_name(self.name)
        if self.conversion is None:
            return self.reference.model
        return check_name(self.conversion.name_of(self.reference.model))

    def arguments(self, config: Config) -> tuple[str, ...]:
        arguments = [f"--repo={self.reference}", *_places(config)]
        if self.kind is not None:
            arguments.append(f"--type={self.kind}")
        if self.name is not None:
            arguments.append(f"--name={check_name(self.name)}")
        if self.conversion is not None:
            arguments += self.conversion.arguments()
        if self.replace:
            arguments.append("--replace")
        return tuple(arguments)


class Quantize(msgspec.Struct, frozen=True, kw_only=True):
    model: InstalledModel
    conversion: Conversion
    name: str | None = None

    @property
    def installed_name(self) -> str:
        return check_name(self.name or self.conversion.name_of(self.model.path.name))

    def arguments(self, config: Config) -> tuple[str, ...]:
        return (
            f"--model={self.model.path.name}",
            f"--name={self.installed_name}",
            *_places(config),
            *self.conversion.arguments(),
        )


def pull_of(name: str, registry: Registry, conversion: Conversion | None = None) -> Pull | None:
    """What ``name`` means: a repository, an alias of one, or the origin of what is installed."""
    if (reference := read_reference(registry.meant(name))) is not None:
        return Pull(reference=reference, conversion=conversion)
    with contextlib.suppress(ServeError):
        installed = registry.find(name)
        if (reference := read_reference(installed.manifest.source or "")) is None:
            return None
        if conversion is not None:
            return Pull(reference=reference, conversion=conversion)
        made = installed.manifest.conversion
        return Pull(reference=reference, name=installed.name, conversion=made)
    return None


def _places(config: Config) -> tuple[str, str]:
    return (
        f"--models-dir={Path(config.models.directory)}",
        f"--custom-models={config.chat.custom_models}",
    )
