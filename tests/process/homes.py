"""A home folder with a short path and a store in it, for a whole module of tests."""

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.store import ModelStore


class Home:
    def __enter__(self) -> Self:
        self.path = Path(tempfile.mkdtemp(prefix="ms-", dir="/tmp"))
        self.store = ModelStore(self.path / "models")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.path)
