"""What any answer may look like, whatever was done to the server."""

from pathlib import Path
from tempfile import gettempdir

import msgspec

from mlx_serve_common.errors import ErrorCode
from tests.process.gateways import Answer

DOCUMENTED = {str(code) for code in ErrorCode} - {"internal_error", "cancelled"}
SECRETIVE = ("Traceback", str(Path.home()), gettempdir(), ".sock", "ipc://", ".py")


def check_answer(answer: Answer) -> None:
    """Success, or an error that is documented and tells nothing about this machine."""
    if answer.status < 400:
        return
    error = msgspec.json.decode(answer.body).get("error")
    if isinstance(error, dict):  # OpenAI's way; Ollama's is a text
        assert error.get("code") in DOCUMENTED or "code" not in error, answer
    assert error, answer
    for word in SECRETIVE:
        assert word not in answer.body.decode(), answer
    if answer.status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1, answer
