"""Alert rules and dashboard ask for what /metrics has; promtool's verdict where it is installed."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.every_metric import exposition

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
RULES = DEPLOY / "prometheus/rules.yml"
TESTS = DEPLOY / "prometheus/rules_test.yml"
DASHBOARD = DEPLOY / "grafana/mlx-serve.json"

# What Prometheus itself adds, and what Grafana puts in.
OF_A_TARGET = {"instance", "job"}
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*", "$model": ".*"}

_SELECTOR = re.compile(r"\b(up|mlx_serve_\w+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*[=!]")
_GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return found


def check(*arguments: str, text: str | None = None) -> None:
    done = subprocess.run(
        [promtool(), *arguments], input=text, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def dashboard_expressions() -> Iterator[str]:
    for panel in panels():
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            assert "$" not in expression, expression
            yield expression


@pytest.fixture(scope="module")
def series() -> dict[str, set[str]]:
    """The names that a query may use, with their labels."""
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(exposition()):
        assert family.samples, family.name
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


EXPRESSIONS = [*(rule["expr"] for rule in rules()), *dashboard_expressions()]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_asked_for_exists(expression: str, series: dict[str, set[str]]) -> None:
    asked = _SELECTOR.findall(expression)
    assert asked
    for name, labels in asked:
        assert name in series
        assert set(_LABEL.findall(labels)) <= series[name] | OF_A_TARGET, name
    known = set.intersection(*(series[name] for name, _ in asked)) | OF_A_TARGET
    for group in _GROUPING.findall(expression):
        assert {label.strip() for label in group.split(",")} <= known


def test_every_metric_is_on_the_dashboard(series: dict[str, set[str]]) -> None:
    shown = {
        name for expression in dashboard_expressions() for name, _ in _SELECTOR.findall(expression)
    }
    bases = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in series} - bases == set()


def test_every_alert_says_what_and_what_to_do_and_is_tested() -> None:
    tested = {
        case["alertname"]
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert {rule["alert"] for rule in rules()} == tested
    for rule in rules():
        assert rule["annotations"].keys() == {"summary", "action"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_the_dashboard_is_in_order() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) == 23


def test_promtool_accepts_the_rules_and_their_tests() -> None:
    check("check", "config", str(DEPLOY / "prometheus/prometheus.yml"))
    check("check", "rules", str(RULES))
    check("test", "rules", str(TESTS))


def test_promtool_accepts_the_dashboards_expressions(tmp_path: Path) -> None:
    copied = [
        {"record": f"panel:{number}", "expr": expression}
        for number, expression in enumerate(dashboard_expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": copied}]}))
    check("check", "rules", str(file))


def test_promtool_accepts_the_metrics() -> None:
    check("check", "metrics", text=exposition())
