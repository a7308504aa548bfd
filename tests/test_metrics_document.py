"""docs/metrics.md tells of what /metrics has and deploy/ contains, no more and no less."""

import re
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.every_metric import exposition

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/metrics.md").read_text("utf-8")


def rows(first_cell: str) -> list[list[str]]:
    """The cells of each row of the tables whose rows begin so."""
    found = re.findall(rf"^\| ({first_cell}.*) \|$", TEXT, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in found]


def test_every_metric_is_told_as_it_is() -> None:
    expected = []
    for family in text_string_to_metric_families(exposition()):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        told = ", ".join(f"`{label}`" for label in sorted(labels))
        expected.append([f"`{name}`", family.type, told, family.documentation])
    assert rows("`mlx_serve_") == expected


def test_every_alert_is_told() -> None:
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())["groups"]
    assert [name for name, _ in rows("`MlxServe")] == [
        f"`{rule['alert']}`" for rule in group["rules"]
    ]
