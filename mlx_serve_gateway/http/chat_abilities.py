"""What a chat model can do besides answering, asked before anything is loaded.

A model of tests has no such facts: it can do everything.
"""

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import InstalledModel


def thinks(model: InstalledModel) -> bool:
    facts = model.manifest.chat
    return facts is None or facts.thinks


def has_template(model: InstalledModel) -> bool:
    facts = model.manifest.chat
    return facts is None or facts.has_template


def require_thinking(model: InstalledModel, param: str) -> None:
    if not thinks(model):
        raise _cannot(model, "thinking", param)


def require_tools(model: InstalledModel) -> None:
    facts = model.manifest.chat
    if facts is not None and not facts.does_tools:
        raise _cannot(model, "tools", "tools")


def _cannot(model: InstalledModel, what: str, param: str) -> ServeError:
    # Ollama's words: its clients look for them.
    message = f'"{model.name}" does not support {what}'
    return ServeError(ErrorCode.UNSUPPORTED_PARAMETER, message, param=param)
