"""The model hub: one that answers, one that does not, and what is none."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mlx_serve_gateway.cli.checks.hub import hub, judge_hub
from mlx_serve_gateway.cli.checks.subject import Subject


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "state", "words"),
    [
        (200, b"[]", "ok", "answers"),
        (503, b"{}", "warn", "it answers 503"),
        (200, b"<html>log in</html>", "warn", "no model hub"),
    ],
)
def test_what_answers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    state: str,
    words: str,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with answering(status, body) as address:
        verdict = hub(Subject(tmp_path, None, {"HF_ENDPOINT": address}))
    assert verdict.state == state
    assert words in verdict.message


def test_what_does_not_answer_is_no_failure() -> None:
    assert judge_hub("https://hub", "no route").state == "warn"


def test_an_address_that_is_none(tmp_path: Path) -> None:
    assert hub(Subject(tmp_path, None, {"HF_ENDPOINT": "nonsense"})).state == "warn"
    assert hub(Subject(tmp_path, None, {"HF_ENDPOINT": "http://[::1"})).state == "warn"


def test_offline_on_purpose(tmp_path: Path) -> None:
    subject = Subject(tmp_path, None, {"HF_ENDPOINT": "nonsense", "HF_HUB_OFFLINE": "1"})
    assert hub(subject).state == "ok"
