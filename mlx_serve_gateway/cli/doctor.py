"""``mlx-serve doctor``: what is wrong with this machine, and what to do about it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from mlx_serve_gateway.cli.checks.table import Finding


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--offline", is_flag=True, help="Do not ask the model hub.")
@config_option
def doctor(as_json: bool, offline: bool, config_file: Path | None) -> int:
    """Look for problems, and say what to do about each.

    A failure is something that will not work, a warning something that could work better. Nothing
    is changed and no model is loaded. Exit codes: 0 no failure; 1 a failure.
    """
    import logging
    import os

    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.checks.subject import Subject
    from mlx_serve_gateway.cli.checks.table import findings, worst
    from mlx_serve_gateway.cli.output import emit_json, emit_table, note

    # What the registry would warn of is told below, in this command's own words.
    logging.getLogger().addHandler(logging.NullHandler())
    file = None if config_file is None else config_file.expanduser().absolute()
    found = list(findings(Subject(home(), file, os.environ), offline=offline))
    if as_json:
        emit_json({"state": worst(found), "checks": found})
    else:
        emit_table(("STATE", "CHECK", "FOUND"), [row for each in found for row in _rows(each)])
        note(_summary(found))
    return ExitCode.FAILED if worst(found) == "fail" else ExitCode.OK


def _rows(finding: "Finding") -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = [(finding.state, finding.check, finding.message)]
    if finding.remedy is not None:
        rows.append(("", "", f"→ {finding.remedy}"))
    return rows


def _summary(found: "list[Finding]") -> str:
    counts = [(sum(each.state == state for each in found), state) for state in ("fail", "warn")]
    words = {"fail": "failed", "warn": "could be better"}
    told = ", ".join(f"{count} {words[state]}" for count, state in counts if count)
    return f"{len(found)} checks: {told or 'all is well'}"
