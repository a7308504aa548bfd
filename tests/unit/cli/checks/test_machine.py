"""Python, system, memory and limits: what is judged of plain facts."""

import resource

import pytest

from mlx_serve_gateway.cli.checks.machine import (
    judge_linux,
    judge_macos,
    judge_memory,
    judge_open_files,
    judge_python,
)

GB = 10**9


@pytest.mark.parametrize(
    ("version", "implementation", "state"),
    [
        ((3, 10), "CPython", "fail"),
        ((3, 11), "CPython", "ok"),
        ((3, 14), "CPython", "ok"),
        ((3, 15), "CPython", "warn"),
        ((3, 12), "PyPy", "fail"),
    ],
)
def test_python(version: tuple[int, int], implementation: str, state: str) -> None:
    assert judge_python(version, implementation, "/usr/bin/python3").state == state


@pytest.mark.parametrize(
    ("version", "machine", "state"),
    [
        ("14.0", "arm64", "ok"),
        ("26.1.1", "arm64", "ok"),
        ("13.6", "arm64", "fail"),
        ("15.0", "x86_64", "fail"),
        ("", "arm64", "fail"),
    ],
)
def test_macos(version: str, machine: str, state: str) -> None:
    assert judge_macos(version, machine).state == state


@pytest.mark.parametrize(
    ("libc", "version", "machine", "state"),
    [
        ("glibc", "2.35", "x86_64", "ok"),
        ("glibc", "2.41", "aarch64", "ok"),
        ("glibc", "2.31", "x86_64", "fail"),
        ("", "", "x86_64", "fail"),
        ("glibc", "2.36", "riscv64", "fail"),
    ],
)
def test_linux(libc: str, version: str, machine: str, state: str) -> None:
    assert judge_linux(libc, version, machine).state == state


@pytest.mark.parametrize(
    ("budget", "gpu_limit", "group", "state", "words"),
    [
        (12, None, None, "ok", "12 GB"),
        (10, 11, None, "ok", "the GPU may use 11 GB"),
        (12, 11, None, "warn", "iogpu.wired_limit_mb=11444"),
        (17, None, None, "fail", "cache.memory_budget to 12 GB or less"),
        (12, None, 8, "fail", "cache.memory_budget to 6.0 GB or less"),
        (6, None, 8, "ok", "6.0 GB"),
    ],
)
def test_memory(
    budget: int, gpu_limit: int | None, group: int | None, state: str, words: str
) -> None:
    verdict = judge_memory(16 * GB, budget * GB, gpu_limit and gpu_limit * GB, group and group * GB)
    assert verdict.state == state
    assert words in f"{verdict.message} {verdict.remedy}"


@pytest.mark.parametrize(
    ("hard", "state"),
    [(resource.RLIM_INFINITY, "ok"), (4096, "ok"), (4095, "warn"), (256, "warn")],
)
def test_open_files(hard: int, state: str) -> None:
    assert judge_open_files(hard).state == state
