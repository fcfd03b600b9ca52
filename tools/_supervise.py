"""Runs one command and leaves nothing of it behind; started by the sandbox without bubblewrap.

A program of its own (`python -I -S _supervise.py CPU_S MEMORY FILE_SIZE PROCESSES OPEN_FILES
COMMAND...`): orphans of the command become its children, so that it can end each of them,
whatever session or group they moved to. It ends them too when its own parent dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from typing import NoReturn

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 36, 38
_NICE = 10
_ROUNDS = 200


def main(args: list[str]) -> int:
    """Run the command that follows the five limits, and return its status as a shell would."""
    parent = os.getppid()
    cpu_s, memory, file_size, processes, open_files = map(int, args[:5])
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if os.getppid() != parent:
            return 1
    signal.signal(signal.SIGTERM, _stop)
    child = os.fork()
    if child == 0:
        _become(args[5:], cpu_s, memory, file_size, processes, open_files)
    status = 1
    with contextlib.suppress(_Stopped):
        status = _waited(child)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_all(child)
    return status


class _Stopped(Exception):
    """We were told to end."""


def _stop(number: int, frame: object) -> NoReturn:
    raise _Stopped


def _become(command: list[str], *limits: int) -> NoReturn:
    os.setsid()
    os.nice(_NICE)  # a crowd of processes must not starve the one that ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    kinds = (
        *(resource.RLIMIT_CPU, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE),
        *(resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE),
    )
    for kind, limit in (*zip(kinds, limits, strict=True), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (allowed, allowed))
    try:
        os.execv(command[0], command)
    finally:
        os._exit(127)


def _waited(child: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _end_all(child: int) -> None:
    """Kill until no child is left; those of a killed one become ours and are next."""
    for _ in range(_ROUNDS):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return


def _children() -> list[int]:
    """Return every process that stems from this one."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found, todo = [], [os.getpid()]
    while todo:
        inner = children.get(todo.pop(), [])
        found += inner
        todo += inner
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
