"""The model hub: what a repository holds, and the bytes of its files.

Invariants: the only module that uses huggingface_hub, whose session knows proxies, certificates
and the token; that session sends the token to the endpoint's own host and to no other; nothing is
read without a limit; every failure is ours, told in words for a person.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from mlx_serve_common import VERSION
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.hub_cache import HubCache
from mlx_serve_worker.listing import (
    MAX_LISTING_BYTES,
    Listing,
    RemoteFile,
    not_of_the_hub,
    read_listing,
)
from mlx_serve_worker.patience import Attempts, Patience, Trouble, Unreachable, WrongAnswer

if TYPE_CHECKING:
    from httpx2 import Response

_PASSING = (408, 425, 429)


class Content(NamedTuple):
    """A file's bytes from ``offset`` on, which is 0 if the hub does not continue."""

    offset: int
    chunks: Iterator[bytes]


class Hub:
    def __init__(self, patience: Patience) -> None:
        # It would ask the hub for a list of programs to look for in our environment.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import httpx2
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        # Each request at INFO, with addresses that are signed: as good as a password for a while.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        self._patience = patience
        self._endpoint = constants.ENDPOINT
        self._is_offline = constants.is_offline_mode()
        self.cache = HubCache(Path(constants.HF_HUB_CACHE))
        self._headers = {
            **build_hf_headers(library_name="mlx-serve", library_version=VERSION),
            # What is counted and continued is the file itself.
            "accept-encoding": "identity",
        }
        self._timeout = httpx2.Timeout(patience.read_s, connect=patience.connect_s)

    def listing(self, repo: str, revision: str | None) -> Listing:
        """What ``repo`` holds at ``revision``, or now; as it was, if the hub cannot be asked."""
        if self._is_offline:
            cached = self.cache.listing(repo, revision)
            if cached is None:
                raise _offline(f"its cache does not have all of {repo}")
            return cached
        try:
            return self._listing(repo, revision)
        except Unreachable:
            if (cached := self.cache.listing(repo, revision)) is None:
                raise
            return cached

    def _listing(self, repo: str, revision: str | None) -> Listing:
        url = f"{self._endpoint}/api/models/{repo}"
        if revision is not None:
            url += f"/revision/{quote(revision, safe='')}"
        attempts = Attempts(self._patience)
        while True:
            try:
                with self._answer(f"{url}?blobs=true", repo, revision) as response:
                    return read_listing(_limited(response, attempts), repo)
            except WrongAnswer:
                raise not_of_the_hub() from None
            except Trouble as trouble:
                attempts.failed(trouble)

    @contextlib.contextmanager
    def content(self, listing: Listing, file: RemoteFile, offset: int) -> Iterator[Content]:
        if self._is_offline:
            raise _offline(
                f"its cache does not have {file.name!r} of {listing.repo} as it should be"
            )
        url = f"{self._endpoint}/{listing.repo}/resolve/{listing.commit}/{quote(file.name)}"
        headers = {"range": f"bytes={offset}-"} if offset else {}
        with self._answer(url, listing.repo, listing.commit, headers) as response:
            begin = _begin(response, file, offset)
            yield Content(begin, response.iter_raw())

    @contextlib.contextmanager
    def _answer(
        self, url: str, repo: str, revision: str | None, headers: dict[str, str] | None = None
    ) -> Iterator["Response"]:
        """The hub's answer when it is one that was hoped for."""
        from huggingface_hub import get_session

        request: dict[str, Any] = {
            "headers": {**self._headers, **(headers or {})},
            "timeout": self._timeout,
        }
        with _told(_host(self._endpoint)), get_session().stream("GET", url, **request) as response:
            if response.status_code not in (200, 206):
                is_ours = _host(str(response.url)) == _host(self._endpoint)
                raise _refusal(response, repo, revision, is_of_hub=is_ours)
            yield response


def _offline(why: str) -> ServeError:
    message = f"HF_HUB_OFFLINE is set, so that the hub cannot be asked, and {why}"
    return ServeError(ErrorCode.UPSTREAM_ERROR, message)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def _limited(response: "Response", attempts: Attempts) -> bytes:
    data = bytearray()
    for chunk in response.iter_bytes():
        attempts.progressed(len(chunk))
        data += chunk
        if len(data) > MAX_LISTING_BYTES:
            raise ServeError(
                ErrorCode.UNSAFE_MODEL,
                f"the repository's list of files exceeds {MAX_LISTING_BYTES // 1024**2} MiB",
            )
    return bytes(data)


def _begin(response: "Response", file: RemoteFile, offset: int) -> int:
    """Where the content begins, if it can be that of the file at all."""
    begin = 0
    if response.status_code == 206:
        expected = f"bytes {offset}-{file.size - 1}/"
        if not response.headers.get("content-range", "").startswith(expected):
            raise WrongAnswer
        begin = offset
    length = response.headers.get("content-length")
    encoding = response.headers.get("content-encoding", "identity")
    if length not in (None, str(file.size - begin)) or encoding != "identity":
        raise WrongAnswer
    return begin


def _refusal(
    response: "Response", repo: str, revision: str | None, *, is_of_hub: bool
) -> Exception:
    status = response.status_code
    if status in _PASSING or status >= 500 or not is_of_hub:
        message = f"the model hub answers with status {status}"
        return Trouble(message, retry_after_s=_retry_after_s(response))
    if status == 416:
        return WrongAnswer()
    kind = response.headers.get("x-error-code", "")
    if kind == "GatedRepo":
        return _denied(
            f"{repo} is gated: accept its conditions on its page, then set HF_TOKEN to a token of"
            " that account"
        )
    if kind == "RevisionNotFound":
        return _not_found(f"{repo} has no revision {revision!r}")
    if kind == "EntryNotFound":
        message = f"the hub lists files of {repo} that it does not have"
        return ServeError(ErrorCode.UPSTREAM_ERROR, message)
    if status == 404 or kind == "RepoNotFound":
        return _not_found(
            f"the hub has no repository {repo}, or it is private: then set HF_TOKEN to a token that"
            " may read it"
        )
    if status == 401:
        return _denied(
            f"the hub gives {repo} to nobody without a valid token: if the name is right, set"
            " HF_TOKEN to a token that may read it"
        )
    if status == 403:
        return _denied(f"the hub refuses access to {repo}; HF_TOKEN decides who is asking")
    if status == 451:
        return _denied(f"the hub does not give out {repo} for legal reasons")
    return ServeError(ErrorCode.UPSTREAM_ERROR, f"the model hub refuses with status {status}")


def _denied(message: str) -> ServeError:
    return ServeError(ErrorCode.ACCESS_DENIED, message, param="model")


def _not_found(message: str) -> ServeError:
    return ServeError(ErrorCode.MODEL_NOT_FOUND, message, param="model")


def _retry_after_s(response: "Response") -> float | None:
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    if (asked := response.headers.get("retry-after", "").strip()).isdecimal():
        return float(asked[:9])
    limits = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limits is not None and limits.remaining == 0:
        return float(limits.reset_in_seconds)
    return None


@contextlib.contextmanager
def _told(host: str) -> Iterator[None]:
    """The network's failures, in our words."""
    import httpx2

    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise ServeError(
                ErrorCode.UPSTREAM_ERROR,
                f"the certificate of {host} is not trusted; SSL_CERT_FILE may name the authority",
            ) from None
        raise Trouble(f"the model hub at {host} cannot be reached", is_unreachable=True) from None
    except httpx2.TimeoutException:
        raise Trouble(f"the model hub at {host} has stopped answering") from None
    except (httpx2.NetworkError, httpx2.RemoteProtocolError):
        raise Trouble(f"the connection to {host} was broken off") from None
    except httpx2.ProxyError:
        raise Trouble(f"the proxy does not connect to {host}", is_unreachable=True) from None
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL):
        raise ServeError(
            ErrorCode.UPSTREAM_ERROR, "HF_ENDPOINT is no address (https://…)"
        ) from None
    except httpx2.HTTPError:
        raise not_of_the_hub() from None
