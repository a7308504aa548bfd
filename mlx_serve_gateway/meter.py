"""What is measured of a model's work, by whoever counts."""

from typing import Protocol

from mlx_serve_common.chat import Finish
from mlx_serve_common.models import InstalledModel
from mlx_serve_common.wire import Result


class Meter(Protocol):
    def leased(self, model: InstalledModel, *, was_loaded: bool) -> None:
        """A request wants the model."""

    def waited(self, model: InstalledModel, seconds: float) -> None:
        """A request has waited so long until its first item was given to the worker."""

    def computed(self, model: InstalledModel, result: Result) -> None:
        """One micro-batch."""

    def said(self, model: InstalledModel, seconds: float, *, is_first: bool) -> None:
        """A piece of an answer came so long after the request, or after the piece before it."""

    def answered(self, model: InstalledModel, finish: Finish) -> None:
        """An answer that was generated is complete."""

    def ended(self, model: InstalledModel, seconds: float) -> None:
        """A request is over, well or not, after so long."""
