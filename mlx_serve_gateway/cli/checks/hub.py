"""Whether models can be downloaded."""

from collections.abc import Mapping

from mlx_serve_gateway.cli.checks.subject import Subject
from mlx_serve_gateway.cli.checks.verdict import Verdict, ok, warn

_HUB = "https://huggingface.co"
_LIMIT_S = 5.0
_ON = {"1", "on", "true", "yes"}


def hub(subject: Subject) -> Verdict:
    address = subject.environ.get("HF_ENDPOINT") or _HUB
    if _is_offline(subject.environ):
        return ok(f"{address} is not asked: HF_HUB_OFFLINE is set")
    return judge_hub(address, _ask(address))


def judge_hub(address: str, problem: str | None) -> Verdict:
    if problem is None:
        return ok(f"{address} answers")
    return warn(
        f"{address}: {problem}",
        "installed models work all the same; to download, check the network, HTTPS_PROXY and "
        "HF_ENDPOINT",
    )


def _ask(address: str) -> str | None:
    """What is wrong with the answer. Asked with the library that the download uses, so that
    proxies and certificates are the same."""
    import httpx2

    try:
        answer = httpx2.get(f"{address}/api/models", params={"limit": 1}, timeout=_LIMIT_S)
        listed = answer.json()
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return str(error) or type(error).__name__
    except ValueError:
        return "what answers there is no model hub"
    return None if isinstance(listed, list) else f"it answers {answer.status_code}"


def _is_offline(environ: Mapping[str, str]) -> bool:
    return environ.get("HF_HUB_OFFLINE", "").lower() in _ON
