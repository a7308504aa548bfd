"""Python, the system under it, its memory and its limits."""

import platform
import resource
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from mlx_serve_common.device import DeviceReport
from mlx_serve_gateway.cli.checks.subject import Subject
from mlx_serve_gateway.cli.checks.verdict import Verdict, fail, ok, warn
from mlx_serve_gateway.cli.open_files import FEWEST_OPEN_FILES
from mlx_serve_gateway.cli.units import size_text

_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 11), (3, 14)
_OLDEST_MACOS = 14
_OLDEST_GLIBC = (2, 35)
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def python(_: Subject) -> Verdict:
    return judge_python(sys.version_info[:2], platform.python_implementation(), sys.executable)


def judge_python(version: tuple[int, int], implementation: str, executable: str) -> Verdict:
    told = f"{implementation} {'.'.join(map(str, version))} ({executable})"
    if implementation != "CPython" or version < _OLDEST_PYTHON:
        return fail(told, "install mlx-serve with CPython 3.11 to 3.14")
    if version > _NEWEST_PYTHON:
        return warn(f"{told} is newer than what was tested", "use CPython 3.11 to 3.14")
    return ok(told)


def system(_: Subject) -> Verdict:
    if sys.platform == "darwin":
        return judge_macos(platform.mac_ver()[0], platform.machine())
    if sys.platform == "linux":
        return judge_linux(*platform.libc_ver(), platform.machine())
    return fail(f"{platform.system()} is not supported", "use macOS or Linux")


def judge_macos(version: str, machine: str) -> Verdict:
    told = f"macOS {version}, {machine}"
    if machine != "arm64":
        remedy = "on Apple Silicon, install an arm64 Python; MLX has no Metal on Intel"
        return fail(f"{told}: this Python is for Intel", remedy)
    if int(version.partition(".")[0] or 0) < _OLDEST_MACOS:
        return fail(f"{told} is too old for MLX", "update to macOS 14 or newer")
    return ok(told)


def judge_linux(libc: str, version: str, machine: str) -> Verdict:
    told = f"Linux, {machine}, {libc or 'no glibc'} {version}".rstrip()
    if machine not in ("x86_64", "aarch64"):
        return fail(told, "MLX is built for x86_64 and aarch64")
    if libc != "glibc" or tuple(map(int, version.split(".")[:2])) < _OLDEST_GLIBC:
        return fail(told, "MLX needs glibc 2.35, as in Ubuntu 22.04 or Debian 12, or newer")
    return ok(told)


def memory(subject: Subject) -> Verdict:
    from mlx_serve_gateway.pool_settings import memory_budget

    device = subject.device
    limit = device.gpu_limit_bytes if isinstance(device, DeviceReport) else None
    total = psutil.virtual_memory().total
    return judge_memory(total, memory_budget(subject.config), limit, _cgroup_limit())


def judge_memory(total: int, budget: int, gpu_limit: int | None, group: int | None) -> Verdict:
    told = f"{size_text(total)}, of which models may take {size_text(budget)}"
    lower = (
        f"set cache.memory_budget to {size_text(int(min(total, group or total) * 0.75))} or less"
    )
    if group is not None and budget > group:
        return fail(f"{told}, but this container is allowed {size_text(group)}", lower)
    if budget > total:
        return fail(told, lower)
    if gpu_limit is not None and budget > gpu_limit:
        return warn(
            f"{told}, but the system lets the GPU use {size_text(gpu_limit)}",
            f"set cache.memory_budget to {size_text(gpu_limit)} or less, or raise the limit: "
            f"sudo sysctl iogpu.wired_limit_mb={budget // 2**20}",
        )
    return ok(told if gpu_limit is None else f"{told}; the GPU may use {size_text(gpu_limit)}")


def _cgroup_limit() -> int | None:
    with suppress(OSError, ValueError):
        return int(_CGROUP_LIMIT.read_text())
    return None


def open_files(_: Subject) -> Verdict:
    return judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def judge_open_files(hard: int) -> Verdict:
    if hard == resource.RLIM_INFINITY:
        return ok("as many as the system has")
    if hard < FEWEST_OPEN_FILES:
        return warn(
            f"only {hard} are allowed; connections beyond are refused",
            f"raise the hard limit: ulimit -Hn {FEWEST_OPEN_FILES} as root, or in the service unit",
        )
    return ok(f"{hard} are allowed")
