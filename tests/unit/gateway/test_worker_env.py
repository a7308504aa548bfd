"""What a worker sees of the environment: nothing secret, no network, the fast BLAS."""

import sys
from pathlib import Path

import pytest

from mlx_serve_gateway import worker_env
from mlx_serve_gateway.worker_env import find_openblas, pull_environment, worker_environment

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


def test_a_persons_own_choice_of_blas_wins() -> None:
    given = worker_environment({"LD_PRELOAD": "mine.so", "OPENBLAS_CORETYPE": "ZEN"})

    assert (given["LD_PRELOAD"], given["OPENBLAS_CORETYPE"]) == ("mine.so", "ZEN")


def test_without_an_argument_it_is_this_process_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    given = worker_environment()
    assert given["OMP_NUM_THREADS"] == "3"
    assert "HF_TOKEN" not in given


def test_the_library_is_found_where_it_is(tmp_path: Path) -> None:
    library = tmp_path / "x86_64-linux-gnu" / "openblas-pthread" / "libopenblas.so.0"
    library.parent.mkdir(parents=True)
    library.touch()

    assert find_openblas([f"{tmp_path}/*/openblas-pthread/libopenblas.so.0"]) == library
    assert find_openblas([f"{tmp_path}/nowhere/*.so"]) is None


@pytest.mark.skipif(sys.platform != "linux", reason="Metal computes on macOS")
def test_openblas_is_preloaded_and_told_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_env, "find_openblas", lambda: Path("/lib/libopenblas.so.0"))
    monkeypatch.setattr(worker_env, "core_type", lambda library, environ: f"{environ['CORE']}X")

    given = worker_environment({"CORE": "Skylake", "OPENBLAS_CORETYPE": "Haswell"})
    assert given["LD_PRELOAD"] == "/lib/libopenblas.so.0"
    assert given["OPENBLAS_CORETYPE"] == "SkylakeX"


@pytest.mark.skipif(sys.platform != "linux", reason="Metal computes on macOS")
def test_openblas_does_not_burn_the_cores_after_each_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_env, "find_openblas", lambda: Path("/lib/libopenblas.so.0"))

    assert int(worker_environment({})["OPENBLAS_THREAD_TIMEOUT"]) < 24
    own = {"OPENBLAS_THREAD_TIMEOUT": "28"}
    assert worker_environment(own).items() >= own.items()


@pytest.mark.skipif(sys.platform != "linux", reason="Metal computes on macOS")
def test_without_openblas_nothing_is_preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_env, "find_openblas", lambda: None)

    assert "LD_PRELOAD" not in worker_environment({})
