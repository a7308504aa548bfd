"""What computes: the device that MLX finds, and on a CPU the library it uses."""

import sys

from mlx_serve_common.device import SLOW_GFLOPS, DeviceReport
from mlx_serve_gateway.blas.candidates import OWN
from mlx_serve_gateway.cli.checks.subject import NoDevice, Subject
from mlx_serve_gateway.cli.checks.verdict import Verdict, fail, ok, warn

_NAMES = {"cpu": "CPU", "cuda": "CUDA", "metal": "Metal"}


def device(subject: Subject) -> Verdict:
    return judge_device(subject.device, sys.platform)


def judge_device(found: DeviceReport | NoDevice, platform: str) -> Verdict:
    if isinstance(found, NoDevice):
        return fail(f"MLX cannot compute: {found}", "install mlx-serve-gateway again")
    kind = _NAMES.get(found.kind, found.kind)
    told = f"{kind}, {found.name or 'unnamed'}, MLX {found.mlx_version}"
    if not found.is_right:
        return fail(f"{told}: a product came out wrong", "update the system, then MLX")
    if platform == "darwin" and found.kind == "cpu":
        remedy = "run on the Mac itself: a virtual machine mostly has no Metal"
        return warn(f"{told}: Metal cannot be used, so computing is slow", remedy)
    return ok(told)


def blas(subject: Subject) -> Verdict:
    return judge_blas(subject.device, subject.chat_device, sys.platform)


def judge_blas(
    found: DeviceReport | NoDevice, for_chat: DeviceReport | NoDevice, platform: str
) -> Verdict:
    if platform != "linux" or isinstance(found, NoDevice) or found.kind != "cpu":
        return ok("not needed here")
    speed = found.matmul_gflops or 0.0
    told = f"{speed:.0f} GFLOP/s"
    if found.blas is None:
        return warn(
            f"MLX's own at {told}, tens of times slower than OpenBLAS",
            "install OpenBLAS; on Debian or Ubuntu: sudo apt-get install libopenblas0-pthread",
        )
    if speed < SLOW_GFLOPS:
        return warn(
            f"{found.blas}, but only at {told}",
            "see that MLX_SERVE_OPENBLAS_CORETYPE and OPENBLAS_NUM_THREADS fit this processor",
        )
    if isinstance(for_chat, NoDevice):
        return warn(
            f"{found.blas} at {told}, but with that for chat models nothing computes: {for_chat}",
            f"have all computed by one library, for example: {OWN}=OpenBLAS",
        )
    others = f"; {for_chat.blas} for chat models" if for_chat.blas != found.blas else ""
    return ok(f"{found.blas} at {told}{others}")
