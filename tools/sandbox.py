"""Commands that can harm nothing but the workspace.

With bubblewrap a command sees a read-only system, the workspace, an empty home and no network.
Without it, a restricted subprocess bounds time, memory, output and processes, and confines no
more than `confinement` says: such commands need a person's approval by default.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Literal

from agentmesh.errors import ConfigError, InputError
from agentmesh.tools.headcount import controller, counted
from agentmesh.tools.programs import find

_SUPERVISOR = Path(__file__).with_name("_supervise.py")
_POLL_S = 0.05
_CHUNK = 65_536
_GRACE_S = 3.0
_SYSTEM = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")
_ETC = ("alternatives", "ld.so.cache")  # few: each mount costs about half a millisecond
_FRESH = ("/tmp", "/dev/shm")  # noqa: S108  # private and empty ones


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may use: seconds of wall and CPU time, bytes, processes."""

    wall_s: float = 60.0
    cpu_s: int = 60
    memory: int = 2_000_000_000
    file_size: int = 500_000_000
    processes: int = 256
    open_files: int = 1024
    output: int = 100_000
    flood: int = 50_000_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"the limit {name!r} cannot be {getattr(self, name)!r}", hint="use more than 0"
                )


@dataclass(frozen=True, slots=True)
class Confinement:
    """How commands are confined, and in plain words what they are not kept from."""

    kind: Literal["bubblewrap", "restricted"]
    cannot: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """How a command ended: `status` is None if it was ended, and `ended` says why."""

    status: int | None
    output: bytes
    produced: int
    seconds: float
    ended: str = ""

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode("utf-8", "replace")


_BUBBLEWRAP_CANNOT = (
    "the total size of what it writes into the workspace is not limited, only each file's",
    "the kernel itself is shared: a flaw in it is not contained",
)
_ROOT_CANNOT = (
    "run by root, the number of processes is watched every 50 ms, not limited by the kernel",
)
_RESTRICTED_CANNOT = (
    "it can read every file that you can",
    "it can write every file that you can, outside of the workspace too",
    "it can use the network",
    "it can see, and send signals to, your other processes",
    "the total memory of many processes is not limited, only each one's",
)


class Sandbox:
    """Runs commands confined to `root`; `confinement` says how well.

    Args:
        root: The directory that commands may change.
        readable: Further directories that commands may read.
        limits: What one command may use.
        bubblewrap: False uses the restricted subprocess even where bubblewrap is installed.
    """

    def __init__(
        self,
        root: Path,
        *,
        readable: Sequence[Path] = (),
        limits: Limits | None = None,
        bubblewrap: bool = True,
    ) -> None:
        self.root = Path(root).resolve()
        if not self.root.is_dir() or self.root == Path("/"):
            raise ConfigError(f"{str(root)!r} cannot be sandboxed", hint="name a directory")
        self.limits = limits or Limits()
        self.readable = tuple(Path(path).resolve() for path in readable)
        self._wanted = bubblewrap

    @cached_property
    def confinement(self) -> Confinement:
        """How commands are confined here; found out by running one."""
        if self._wanted and find("bwrap") and self._bubblewrap_works():
            watched = os.geteuid() == 0 and controller() is None
            extra = _ROOT_CANNOT if watched else ()
            return Confinement("bubblewrap", _BUBBLEWRAP_CANNOT + extra)
        return Confinement("restricted", _RESTRICTED_CANNOT)

    def _bubblewrap_works(self) -> bool:
        try:
            done = subprocess.run(
                self._bubblewrap("true"), capture_output=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def run(self, command: str, *, timeout_s: float | None = None) -> Run:
        """Run `command` with `sh -c` in the workspace; nothing of it outlives this call."""
        if not command.strip() or "\0" in command:
            raise InputError("the command is empty", hint="give a shell command")
        confined = self.confinement.kind == "bubblewrap"
        line = self._bubblewrap(command) if confined else self._restricted(command)
        wall_s = min(timeout_s or self.limits.wall_s, self.limits.wall_s)
        with counted(line, self.limits.processes) as entered:
            try:
                process = subprocess.Popen(
                    entered,
                    cwd=self.root,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                raise InputError(f"the command cannot start: {error}", hint="shorten it") from error
            with process:
                try:
                    return _followed(process, self.limits, wall_s)
                finally:
                    _end(process)

    def _environment(self) -> dict[str, str]:
        """Return all that a command's environment holds: nothing of ours."""
        paths = [f"{prefix}/bin" for prefix in self._pythons()]
        return {
            "HOME": "/tmp",  # noqa: S108  # a private one within bubblewrap
            "LANG": "C.UTF-8",
            "PATH": ":".join([*paths, "/usr/local/bin", "/usr/bin", "/bin"]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TERM": "dumb",
        }

    @staticmethod
    def _pythons() -> tuple[str, ...]:
        """Return where this Python lives, if that is not a whole home or system directory."""
        found = dict.fromkeys((sys.prefix, sys.base_prefix))
        home = os.path.expanduser("~")
        return tuple(path for path in found if len(Path(path).parts) > 2 and path != home)

    def _bubblewrap(self, command: str) -> list[str]:
        line = [
            *(find("bwrap") or "bwrap", "--unshare-all", "--unshare-user", "--disable-userns"),
            *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox"),
            *("--ro-bind", "/usr", "/usr"),
        ]
        for path in _SYSTEM:
            if os.path.islink(path):
                line += ["--symlink", os.readlink(path), path]
            elif os.path.isdir(path):
                line += ["--ro-bind", path, path]
        for name in _ETC:
            line += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        line += ["--proc", "/proc", "--dev", "/dev"]
        for folder in _FRESH:
            line += ["--size", str(self.limits.file_size), "--tmpfs", folder]
        line += ["--symlink", "../tmp", "/var/tmp", *self._mounts()]  # noqa: S108
        for folder in ("/proc", "/dev", "/"):  # to root, files of /proc/sys would be writable
            line += ["--remount-ro", folder]
        return [*line, "--chdir", str(self.root), "--", *self._limited(command)]

    def _mounts(self) -> list[str]:
        """Return what is shown of this machine, outer directories before what lies in them."""
        shown = {Path(path): "--ro-bind" for path in self._pythons()}
        shown |= dict.fromkeys(self.readable, "--ro-bind") | {self.root: "--bind"}
        git = self.root / ".git"
        if git.is_symlink():
            raise InputError(f"{str(git)!r} is a link", hint="a sandbox needs a real .git, or none")
        if git.exists():
            shown[git] = "--ro-bind"
        ordered = sorted(shown.items(), key=lambda item: len(item[0].parts))
        return [word for path, how in ordered for word in (how, str(path), str(path))]

    def _limited(self, command: str) -> list[str]:
        """Return the command line that lowers the limits and then becomes `command`."""
        limits = self.limits
        lower = (
            f"ulimit -c 0; ulimit -t {limits.cpu_s}; ulimit -n {limits.open_files}; "
            f"ulimit -f {limits.file_size // 512}; ulimit -d {limits.memory // 1024}; "
            f"ulimit -p {limits.processes} 2>/dev/null || ulimit -u {limits.processes}; "
            'exec /bin/sh -c "$1"'
        )
        return ["/bin/sh", "-c", lower, "sh", command]

    def _restricted(self, command: str) -> list[str]:
        limits = self.limits
        numbers = (limits.cpu_s, limits.memory, limits.file_size, limits.processes)
        supervised = [sys.executable, "-I", "-S", str(_SUPERVISOR), *map(str, numbers)]
        return [*supervised, str(limits.open_files), "/bin/sh", "-c", command]


class _Output:
    """The beginning and the end of what a command prints, and how much it was."""

    def __init__(self, limit: int) -> None:
        self.head, self.tail, self.produced = bytearray(), bytearray(), 0
        self._head_size, self._tail_size = limit * 3 // 4, limit - limit * 3 // 4

    def add(self, chunk: bytes) -> None:
        self.produced += len(chunk)
        room = self._head_size - len(self.head)
        self.head += chunk[: max(room, 0)]
        self.tail += chunk[max(room, 0) :]
        if len(self.tail) > 2 * self._tail_size + _CHUNK:
            del self.tail[: -self._tail_size]

    def whole(self) -> bytes:
        """Return it all if it was within the limit, else both ends around a note."""
        tail = bytes(self.tail[-self._tail_size :])
        gone = self.produced - len(self.head) - len(tail)
        if not gone:
            return bytes(self.head) + tail
        head = self.head.decode("utf-8", "ignore").encode()
        while tail and tail[0] & 0xC0 == 0x80:
            tail = tail[1:]
        return head + f"\n[{gone:,} of {self.produced:,} bytes cut here]\n".encode() + tail


def _followed(process: subprocess.Popen[bytes], limits: Limits, wall_s: float) -> Run:
    """Read what `process` prints until it ends or goes over a limit."""
    pipe: IO[bytes] = process.stdout  # type: ignore[assignment]  # it was asked for
    began = time.monotonic()
    output, ended, crowd = _Output(limits.output), "", _tasks() + limits.processes
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not ended:
            left = began + wall_s - time.monotonic()
            if left <= 0:
                ended = f"it ran for more than {wall_s:g} s"
            elif output.produced > limits.flood:
                ended = f"it printed more than {limits.flood:,} bytes"
            elif _tasks() > crowd and len(descendants(process.pid)) > limits.processes:
                ended = f"it started more than {limits.processes} processes"
            elif selector.select(min(left, _POLL_S)):
                chunk = os.read(pipe.fileno(), _CHUNK)
                if not chunk:
                    break
                output.add(chunk)
    if not ended and not _over(process, max(began + wall_s - time.monotonic(), 0.01)):
        ended = f"it ran for more than {wall_s:g} s"
    seconds = time.monotonic() - began
    status = None if ended else process.returncode
    return Run(status, output.whole(), output.produced, seconds, ended)


def _over(process: subprocess.Popen[bytes], wait_s: float) -> bool:
    """Return whether `process` ends within `wait_s`, told by the kernel rather than by asking."""
    try:
        handle = os.pidfd_open(process.pid)
    except (OSError, AttributeError):  # an older kernel, or not Linux
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
        return process.poll() is not None
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            selector.select(wait_s)
    finally:
        os.close(handle)
    return process.poll() is not None


def _tasks() -> int:
    """Return how many threads the system has, or 0 where that is not told."""
    try:
        with open("/proc/loadavg", encoding="ascii") as loads:
            return int(loads.read().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return 0


def descendants(pid: int) -> list[int]:
    """Return the processes that stem from `pid`, as far as /proc tells."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                status = Path(f"/proc/{name}/stat").read_text("utf-8", "replace")
                parent = int(status.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found, todo = [], [pid]
    while todo:
        inner = children.get(todo.pop(), [])
        found += inner
        todo += inner
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and all that stems from it, and wait until that is so."""
    if process.poll() is None:
        rest = descendants(process.pid)
        process.send_signal(signal.SIGTERM)  # bubblewrap and the supervisor take theirs along
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            for pid in (process.pid, *rest):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
    _drained(process)


def _drained(process: subprocess.Popen[bytes]) -> None:
    """Wait until nobody holds the other end of the pipe, or the grace is over."""
    pipe: IO[bytes] = process.stdout  # type: ignore[assignment]  # it was asked for
    until = time.monotonic() + _GRACE_S
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0:
            if selector.select(left) and not os.read(pipe.fileno(), _CHUNK):
                return
