"""A repository's files into a folder, in the order that tells soonest whether they are of use.

Invariants: before any weights come, the disk has room for all of them, and what the model is has
been read from its settings.
"""

import shutil
from collections.abc import Callable, Iterable

from mlx_serve_common.conversion import Conversion
from mlx_serve_worker.download import Source, fetch
from mlx_serve_worker.downloads import Folder
from mlx_serve_worker.listing import RemoteFile
from mlx_serve_worker.meter import Meter
from mlx_serve_worker.preflight import (
    INDEX_FILE,
    MODULES_FILE,
    Layout,
    Plan,
    plan,
    read_layout,
    read_shards,
    refuse_without_room,
)
from mlx_serve_worker.repository import Repository


class Gathering:
    def __init__(
        self, source: Source, folder: Folder, meter: Meter, conversion: Conversion | None
    ) -> None:
        self._source = source
        self._listing = source.listing
        self._folder = folder
        self._meter = meter
        self._conversion = conversion
        self._fetched: set[str] = set()

    def gather(self, appraise: Callable[[], None]) -> None:
        """``appraise`` raises when everything but the weights is there, and they are not needed."""
        self._weigh(plan(self._listing))
        if (modules := self._listing.files.get(MODULES_FILE)) is not None:
            self._fetch([modules])
        layout = read_layout(self._repository().json_list(MODULES_FILE))
        chosen = plan(self._listing, layout)
        self._meter.expect(chosen.total_bytes)
        self._fetch(chosen.small)
        chosen = plan(self._listing, layout, self._shards(layout))
        self._meter.expect(chosen.total_bytes)
        self._weigh(chosen)
        appraise()
        self._fetch(chosen.weights)
        self._meter.tell()

    def _weigh(self, chosen: Plan) -> None:
        self._meter.expect(chosen.total_bytes)
        held = sum(self._folder.held_bytes(file) for file in chosen.files)
        free = shutil.disk_usage(self._folder.models_dir).free
        weights = sum(file.size for file in chosen.weights)
        made = 0 if self._conversion is None else self._conversion.made_bytes(weights)
        refuse_without_room(chosen.total_bytes - held, free, made)

    def _fetch(self, files: Iterable[RemoteFile]) -> None:
        for file in files:
            if file.name not in self._fetched:
                self._meter.begin(file.name, file.size)
                fetch(self._source, file, self._folder, self._meter)
                self._fetched.add(file.name)

    def _shards(self, layout: Layout) -> list[str] | None:
        name = f"{layout.transformer}/{INDEX_FILE}" if layout.transformer else INDEX_FILE
        index = self._repository().json(name) if name in self._fetched else None
        return None if index is None else read_shards(index)

    def _repository(self) -> Repository:
        return Repository(self._folder.files)
