"""A limit on the number of a command's processes that the kernel keeps, even for root.

`RLIMIT_NPROC` does not hold root back, so that a fork bomb fills the machine before anybody who
watches can end it. A control group does hold it, where the pids controller can be written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_ENTER = 'echo 0 > "$0" && exec "$@"'
"""Enter as oneself, by 0: in a group of the first kind's `tasks` the kernel then need not hold all
other threads still, which would cost 5 to 10 ms."""

_OWN_PROCESSES = 8
"""What bubblewrap, the shell and the supervisor add to a command's own processes."""

_ROUNDS = 100


@cache
def controller() -> Path | None:
    """Return the folder in which process groups can be made and counted, or None."""
    if os.geteuid() != 0:
        return None  # the resource limit holds
    first = Path("/sys/fs/cgroup/pids")
    second = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError):
        if "pids" in (second / "cgroup.subtree_control").read_text(encoding="ascii").split():
            first = second
    probe = first / f"agentmesh-{secrets.token_hex(8)}"
    try:
        probe.mkdir()
        (probe / "pids.max").write_text("64", encoding="ascii")
    except OSError:
        return None
    finally:
        with contextlib.suppress(OSError):
            probe.rmdir()
    return first


@contextmanager
def counted(line: list[str], processes: int) -> Iterator[list[str]]:
    """Yield the command line that runs `line` in a group of at most so many processes.

    The group's processes have ended when the block has. Without a controller it is `line` itself.
    """
    folder = controller()
    if folder is None:
        yield line
        return
    group = folder / f"agentmesh-{secrets.token_hex(8)}"
    try:
        group.mkdir()
        (group / "pids.max").write_text(str(processes + _OWN_PROCESSES), encoding="ascii")
    except OSError:
        yield line
        return
    try:
        yield ["/bin/sh", "-c", _ENTER, str(_door(group)), *line]
    finally:
        _empty(group)


def _door(group: Path) -> Path:
    """Return the file by which a process enters: each thread for itself, if groups allow that."""
    tasks = group / "tasks"
    return tasks if tasks.exists() else group / "cgroup.procs"


def _empty(group: Path) -> None:
    """End what is left of a group, and remove it."""
    for number in range(_ROUNDS):
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text(encoding="ascii").split():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(int(pid), signal.SIGKILL)
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(min(0.0005 * 2**number, 0.02))
        else:
            return
