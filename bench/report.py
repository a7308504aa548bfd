"""What was found, as a table for people and as JSON for documents.

Invariants: a row is there even if nobody could fill it; a ratio is above 1 where ours is better.
"""

import platform
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median

import msgspec
import psutil

from bench.loads.load import Found, Row
from bench.subjects import OURS
from mlx_serve_common import VERSION

LIMIT = "in process"
_HEAD = ("load", "measure", "unit")


class Results:
    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._found: dict[Row, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.failures: list[str] = []

    def add(self, subject: str, found: Found) -> None:
        for row, value in found.items():
            self._found[row][subject].append(value)

    def median(self, row: Row, subject: str) -> float | None:
        values = self._found[row].get(subject)
        return None if not values else median(values)

    def ratio(self, row: Row, subject: str) -> float | None:
        """How many times better ours is."""
        ours, other = self.median(row, OURS), self.median(row, subject)
        if not ours or not other:
            return None
        return ours / other if row.more_is_better else other / ours

    def table(self, subjects: Sequence[str]) -> str:
        lines = [(*_HEAD, *subjects), ("---",) * (len(_HEAD) + len(subjects))]
        lines += [(*row[:3], *self._cells(row, subjects)) for row in self._rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def _cells(self, row: Row, subjects: Sequence[str]) -> Iterator[str]:
        for subject in subjects:
            value, ratio = self.median(row, subject), self.ratio(row, subject)
            if value is None:
                yield "-"
            elif subject == OURS or ratio is None:
                yield _number(value)
            else:
                yield f"{_number(value)} (x{ratio:.2f})"

    def json(self, subjects: Sequence[str]) -> bytes:
        rows = [
            row._asdict()
            | {
                "subjects": {
                    subject: {
                        "median": self.median(row, subject),
                        "ratio": self.ratio(row, subject),
                        "rounds": self._found[row].get(subject, []),
                    }
                    for subject in subjects
                }
            }
            for row in self._rows
        ]
        told = {"machine": machine(), "rows": rows, "failures": self.failures}
        return msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n"


def machine() -> dict[str, str | int]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "system": platform.platform(),
        "cores": psutil.cpu_count() or 0,
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "mlx_serve": VERSION,
        "mlx": version("mlx"),
        "mlx_lm": version("mlx-lm"),
    }


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
