"""What a worker sees of the environment: nothing secret, no network, the fast BLAS."""

import sys
from collections.abc import Mapping

import pytest

from mlx_serve_gateway.blas import choice
from mlx_serve_gateway.blas.candidates import Candidate
from mlx_serve_gateway.blas.libraries import Kind
from mlx_serve_gateway.worker_env import prepare, pull_environment, worker_environment

SECRETS = {
    "HF_TOKEN": "hf_secret",
    "HUGGING_FACE_HUB_TOKEN": "hf_secret",
    "HUGGINGFACE_TOKEN": "hf_secret",
    "OPENAI_API_KEY": "sk-secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "MLX_SERVE_ADMIN_KEY": "secret-admin-key",
    "SSH_AUTH_SOCK": "/secret",
    "HTTPS_PROXY": "http://user:secret@proxy",
    "http_proxy": "http://user:secret@proxy",
    "HF_ENDPOINT": "http://secret",
    "HF_HUB_OFFLINE": "0",
    "MLX_SERVE_HOME": "secret",
}


def test_no_secret_reaches_a_worker() -> None:
    given = worker_environment(SECRETS)

    assert not [name for name, value in given.items() if "secret" in value]
    assert not given.keys() & (SECRETS.keys() - {"HF_HUB_OFFLINE"})


def test_a_worker_has_no_network() -> None:
    given = worker_environment({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"})

    assert given["HF_HUB_OFFLINE"] == given["TRANSFORMERS_OFFLINE"] == "1"


def test_a_download_gets_the_hub_the_network_and_the_persons_token_and_no_more() -> None:
    hub = {
        "HF_ENDPOINT": "http://127.0.0.1:1",
        "HF_TOKEN": "hf_secret",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": "/cache",
        "https_proxy": "http://proxy",
        "NO_PROXY": "localhost",
        "SSL_CERT_FILE": "/ca.pem",
    }
    given = pull_environment(SECRETS | hub)

    assert given.items() >= hub.items()
    assert not given.keys() & {"OPENAI_API_KEY", "MLX_SERVE_ADMIN_KEY", "SSH_AUTH_SOCK"}
    assert "TRANSFORMERS_OFFLINE" not in given
    assert "HF_HUB_OFFLINE" not in pull_environment({})


def test_what_computing_needs_is_kept() -> None:
    needed = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": "/src",
        "CUDA_VISIBLE_DEVICES": "1",
        "METAL_DEVICE_WRAPPER_TYPE": "1",
        "OMP_NUM_THREADS": "4",
        "MLX_SERVE_TEST_BACKENDS": "1",
    }
    assert worker_environment(needed).items() >= needed.items()


def test_without_an_argument_it_is_this_process_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    given = worker_environment()
    assert given["OMP_NUM_THREADS"] == "3"
    assert "HF_TOKEN" not in given


@pytest.fixture
def blas(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(environ: Mapping[str, str], *, is_chat: bool) -> Candidate:
        kind = Kind.BLIS if is_chat else Kind.OPENBLAS
        return Candidate(kind, f"/lib/{kind}.so", (("OMP_NUM_THREADS", environ["OMP"]),))

    monkeypatch.setattr(choice, "chosen", chosen)


@pytest.mark.skipif(sys.platform != "linux", reason="Metal computes on macOS")
def test_each_worker_starts_with_the_library_for_its_work(blas: None) -> None:
    usual = worker_environment({"OMP": "2"})
    for_chat = worker_environment({"OMP": "2"}, is_chat=True)

    assert (usual["LD_PRELOAD"], for_chat["LD_PRELOAD"]) == ("/lib/OpenBLAS.so", "/lib/BLIS.so")
    assert usual["OMP_NUM_THREADS"] == for_chat["OMP_NUM_THREADS"] == "2"


def test_a_persons_own_choice_of_blas_wins(blas: None) -> None:
    given = worker_environment({"LD_PRELOAD": "mine.so", "OPENBLAS_CORETYPE": "ZEN"})

    assert (given["LD_PRELOAD"], given["OPENBLAS_CORETYPE"]) == ("mine.so", "ZEN")


def test_without_a_library_nothing_is_preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "chosen", lambda environ, *, is_chat: None)

    assert "LD_PRELOAD" not in worker_environment({})


def test_measuring_begins_where_there_is_a_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[Mapping[str, str]] = []
    monkeypatch.setattr(choice, "begin", begun.append)

    prepare({"LD_PRELOAD": "mine.so"})
    assert begun == []
    if sys.platform == "linux":
        prepare({"OMP": "2"})
        assert begun == [{"OMP": "2"}]
