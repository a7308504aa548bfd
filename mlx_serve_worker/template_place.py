"""Where a repository has its chat template: of several places, the one transformers prefers."""

from typing import Any

from mlx_serve_worker.repository import MAX_TEXT_BYTES, Repository, unfit
from mlx_serve_worker.tokenizer_settings import TOKENIZER_CONFIG

TEMPLATE_FILE = "chat_template.jinja"
OLD_TEMPLATE_FILE = "chat_template.json"
_DEFAULT = "default"


def read_template(repository: Repository, decided: dict[str, str]) -> str | None:
    template, place = _find(repository)
    if template is None:
        decided["template"] = "none in any file: texts are continued, conversations refused"
        return None
    if not isinstance(template, str) or len(template.encode()) > MAX_TEXT_BYTES:
        raise unfit(f"the chat template in {place} is no text of {MAX_TEXT_BYTES // 1024} KiB")
    decided["template"] = place
    return template


def _find(repository: Repository) -> tuple[Any, str]:
    if repository.has(TEMPLATE_FILE):
        return repository.text(TEMPLATE_FILE), TEMPLATE_FILE
    for name in (TOKENIZER_CONFIG, OLD_TEMPLATE_FILE):
        found = (repository.json(name) or {}).get("chat_template")
        if found is not None:
            return _of_several(found), f"{name}: chat_template"
    return None, ""


def _of_several(found: Any) -> Any:
    if not isinstance(found, list):
        return found
    named = {
        each["name"]: each.get("template")
        for each in found
        if isinstance(each, dict) and isinstance(each.get("name"), str)
    }
    return named.get(_DEFAULT)
