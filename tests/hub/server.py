"""A stand-in for the model hub: its real HTTP API as huggingface_hub speaks it, with faults.

Large files are answered with a redirect to a second server, as the hub answers with its CDN: a
different origin, which must never see the token. Every request and every byte sent is recorded.
"""

import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec

from tests.hub.faults import Fault, wrong_bytes
from tests.hub.repositories import HubFile, HubRepository

_CHUNK_BYTES = 64 * 1024
_INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?")
_TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(/(?P<path>.+))?")
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_CDN = re.compile(r"/cdn/(?P<sha256>[0-9a-f]{64})")


@dataclass(frozen=True)
class Request:
    server: str
    """``hub`` or ``cdn``."""
    method: str
    path: str
    query: str
    range: str | None
    authorization: str | None
    headers: dict[str, str] = field(compare=False)


class Hub:
    """A context manager: leaving it ends both servers and every request that still hangs."""

    def __init__(self) -> None:
        self.repositories: dict[str, HubRepository] = {}
        self.faults: dict[str, Fault] = {}
        """By the name of the file, or ``api`` for the answer about a repository."""
        self.token: str | None = None
        """What has to be sent to read anything; None if everything is public."""
        self.gated: set[str] = set()
        self.requests: list[Request] = []
        self.bytes_sent: Counter[str] = Counter()
        self.released = threading.Event()
        """Set when the test is over: nothing waits any longer."""
        self._servers = {name: _Server(self, name) for name in ("hub", "cdn")}

    def __enter__(self) -> Self:
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.released.set()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def add(self, repository: HubRepository) -> HubRepository:
        self.repositories[repository.repo.lower()] = repository
        return repository

    def url(self, server: str = "hub") -> str:
        return f"http://127.0.0.1:{self._servers[server].server_port}"

    def environment(self) -> dict[str, str]:
        """For a process that is to take this for the hub."""
        return {
            "HF_ENDPOINT": self.url(),
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def file_bytes(self) -> int:
        """Sent of all files together."""
        return sum(count for name, count in self.bytes_sent.items() if name != "api")

    def asked(self, server: str) -> list[Request]:
        return [request for request in self.requests if request.server == server]


class _Server(ThreadingHTTPServer):
    # Its close would wait for a client that stalls.
    block_on_close = False
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: Hub, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.name = name

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    @property
    def _hub(self) -> Hub:
        return self.server.hub

    def _answer(self) -> None:
        split = urlsplit(self.path)
        path = unquote(split.path)
        self._hub.requests.append(
            Request(
                self.server.name,
                self.command,
                path,
                split.query,
                self.headers.get("range"),
                self.headers.get("authorization"),
                dict(self.headers),
            )
        )
        if self.server.name == "cdn":
            return self._answer_cdn(path)
        for pattern, answer in (
            (_TREE, self._answer_tree),
            (_INFO, self._answer_info),
            (_RESOLVE, self._answer_resolve),
        ):
            # Matched before decoding: a slash inside a part is none of the path's.
            if (found := pattern.fullmatch(split.path)) is not None:
                parts = {name: unquote(part or "") for name, part in found.groupdict().items()}
                return answer(parts, parse_qs(split.query))
        self._error(404, "", "Not Found")

    # --- the API ---------------------------------------------------------------------------------

    def _answer_info(self, parts: dict[str, str], query: dict[str, list[str]]) -> None:
        if (found := self._repository(parts)) is None:
            return
        info: dict[str, Any] = {
            "_id": "0", "id": found.repo, "modelId": found.repo, "sha": found.commit,
            "private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0,
            "siblings": found.siblings(),
        }  # fmt: skip
        if "blobs" not in query:
            info["siblings"] = [{"rfilename": each["rfilename"]} for each in info["siblings"]]
        self._send_json("api", info, found)

    def _answer_tree(self, parts: dict[str, str], query: dict[str, list[str]]) -> None:
        if (found := self._repository(parts)) is None:
            return
        entries = [file.tree_entry() for file in found.files.values()]
        self._send_json("api", entries, found)

    def _answer_resolve(self, parts: dict[str, str], query: dict[str, list[str]]) -> None:
        if (found := self._repository(parts)) is None:
            return
        file = found.files.get(parts["path"])
        if file is None:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        headers = {
            "X-Repo-Commit": found.commit,
            "ETag": f'"{file.etag}"',
            "Accept-Ranges": "bytes",
        }
        if not file.is_lfs:
            self._send_file(file, headers)
            return
        headers |= {
            "X-Linked-Etag": f'"{file.etag}"',
            "X-Linked-Size": str(len(file.content)),
            "Location": f"{self._hub.url('cdn')}/cdn/{file.sha256}?name={quote(file.name)}",
        }
        self._send(302, headers, b"", "")

    def _answer_cdn(self, path: str) -> None:
        found = _CDN.fullmatch(path)
        files = (file for each in self._hub.repositories.values() for file in each.files.values())
        name = parse_qs(urlsplit(self.path).query).get("name", [""])[0]
        for file in files:
            if found is not None and (file.sha256, file.name) == (found["sha256"], name):
                self._send_file(file, {"ETag": '"of the cdn"', "Accept-Ranges": "bytes"})
                return
        self._error(403, "", "no such signature")

    def _repository(self, parts: dict[str, str]) -> HubRepository | None:
        """The one that is asked for, unless the answer is an error."""
        found = self._hub.repositories.get(parts["repo"].lower())
        sent = self.headers.get("authorization")
        is_known = self._hub.token is not None and sent == f"Bearer {self._hub.token}"
        if sent is not None and not is_known and self._hub.token is not None:
            self._error(401, "", "Invalid credentials in Authorization header")
        elif found is None or (self._hub.token is not None and not is_known):
            self._error(404 if is_known else 401, "RepoNotFound", "Repository not found")
        elif found.repo in self._hub.gated:
            self._error(403 if is_known else 401, "GatedRepo", "Access is restricted")
        elif not found.has(parts.get("revision") or "main"):
            self._error(404, "RevisionNotFound", "Invalid rev id")
        else:
            return found
        return None

    # --- answers ---------------------------------------------------------------------------------

    def _send_json(self, name: str, value: object, repository: HubRepository) -> None:
        body = msgspec.json.encode(value)
        headers = {"Content-Type": "application/json", "X-Repo-Commit": repository.commit}
        if not self._struck(name, HubFile(name, body), headers):
            self._send(200, headers, body, name)

    def _send_file(self, file: HubFile, headers: dict[str, str]) -> None:
        if self._struck(file.name, file, headers):
            return
        self._send_content(file.content, headers, file.name, Fault())

    def _struck(self, name: str, file: HubFile, headers: dict[str, str]) -> bool:
        fault = self._hub.faults.get(name)
        if fault is None or not fault.take():
            return False
        if fault.redirect is not None:
            self._send(302, {"Location": fault.redirect}, b"", "")
        elif fault.status is not None or fault.body is not None:
            sent = {"Content-Type": fault.content_type, **fault.headers}
            self._send(fault.status or 200, sent, fault.body or b"", name)
        else:
            content = wrong_bytes(file.content) if fault.wrong_bytes else file.content
            self._send_content(content, headers | fault.headers, name, fault)
        return True

    def _send_content(
        self, content: bytes, headers: dict[str, str], name: str, fault: Fault
    ) -> None:
        status, begin = 200, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range") or "")
        if asked is not None and not fault.ignores_range:
            status, begin = 206, int(asked[1])
            if begin >= len(content):
                self._send(416, {"Content-Range": f"bytes */{len(content)}"}, b"", "")
                return
            span = f"bytes {begin}-{len(content) - 1}/{len(content)}"
            headers = headers | {"Content-Range": span}
        self._send(status, headers, content[begin:], name, fault)

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        body: bytes,
        name: str,
        fault: Fault | None = None,
    ) -> None:
        fault = fault or Fault()
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if fault.without_length:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.stall_after is not None:
            self._write(body[: fault.stall_after], name, fault)
            if fault.go_on is None:
                self._hub.released.wait()
                self.close_connection = True
            else:
                fault.go_on.wait()
                self._write(body[fault.stall_after :], name, fault)
        elif fault.drop_after is not None:
            self._write(body[: fault.drop_after], name, fault)
            self.close_connection = True
        else:
            self._write(body, name, fault)

    def _write(self, body: bytes, name: str, fault: Fault) -> None:
        for begin in range(0, len(body), _CHUNK_BYTES):
            chunk = body[begin : begin + _CHUNK_BYTES]
            self.wfile.write(chunk)
            self._hub.bytes_sent[name] += len(chunk)
            if fault.bytes_per_s is not None:
                self._hub.released.wait(len(chunk) / fault.bytes_per_s)

    def _error(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, headers, msgspec.json.encode({"error": message}), "error")
