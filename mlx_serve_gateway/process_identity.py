"""Which process a number means: identities that survive the reuse of process ids; who is held up.

Invariants: nobody is signalled by number alone. A signal reaches the process whose identity was
recorded, or nobody.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec

ProcessId = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class ProcessIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """A process of one boot: its id, and a token of when it began."""

    pid: ProcessId
    start_token: str
    boot_id: str

    def is_current(self) -> bool:
        """Whether the id still means the same process (perhaps a dead one not yet reaped)."""
        return self.boot_id == boot_id() and self.start_token == start_token(self.pid)

    def send(self, signum: signal.Signals) -> bool:
        """Signal this very process; False when it is gone. PermissionError as from ``os.kill``."""
        if sys.platform == "linux":
            try:
                handle = os.pidfd_open(self.pid)
            except ProcessLookupError:
                return False
            except OSError:
                return self._send_by_number(signum)  # a kernel or sandbox without pidfd
            try:
                # The handle is open: from here the id cannot come to mean somebody else.
                if not self.is_current():
                    return False
                signal.pidfd_send_signal(handle, signum)
            except ProcessLookupError:
                return False
            finally:
                os.close(handle)
            return True
        return self._send_by_number(signum)

    def _send_by_number(self, signum: signal.Signals) -> bool:
        if not self.is_current():
            return False
        try:
            os.kill(self.pid, signum)
        except ProcessLookupError:
            return False
        return True


def this_process() -> ProcessIdentity:
    token = start_token(os.getpid())
    if token is None:
        raise OSError("the start time of this process cannot be read")
    return ProcessIdentity(pid=os.getpid(), start_token=token, boot_id=boot_id())


def boot_id() -> str:
    """What distinguishes this boot: start times alone may repeat after a restart."""
    if sys.platform == "linux":
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return _told_by("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid") or ""


def start_token(pid: int) -> str | None:
    """When the process began, in the kernel's own terms; None when there is no such process."""
    if sys.platform == "linux":
        fields = _stat_fields(pid)
        return None if fields is None else fields[19].decode("ascii")  # field 22
    # psutil's create_time follows corrections of the clock; p_starttime, which ps shows, does not.
    return _told_by("/bin/ps", "-o", "lstart=", "-p", str(pid))


def is_stopped(pid: int) -> bool:
    """Somebody holds the process up, by SIGSTOP or with a debugger, until they let it go."""
    if sys.platform == "linux":
        fields = _stat_fields(pid)
        return fields is not None and fields[0] in (b"T", b"t")
    return (_told_by("/bin/ps", "-o", "stat=", "-p", str(pid)) or "").startswith("T")


def _stat_fields(pid: int) -> list[bytes] | None:
    """Those of ``/proc/PID/stat`` from the third, the state; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, field 2, may hold blanks and brackets.
    return stat.rpartition(b")")[2].split()


def _told_by(*command: str) -> str | None:
    told = subprocess.run(
        command, env={"LC_ALL": "C", "TZ": "UTC"}, capture_output=True, text=True, timeout=10
    )
    return told.stdout.strip() or None
