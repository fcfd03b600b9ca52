"""Every attempt of a command to reach out of the sandbox, one case each.

Run where bubblewrap is: none may succeed. What the restricted subprocess cannot stop is listed
by its `confinement.cannot`, and shown here to be a true list.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agentmesh.errors import InputError
from agentmesh.tools import declaration
from agentmesh.tools.headcount import controller
from agentmesh.tools.sandbox import Limits, Run, Sandbox
from agentmesh.tools.workspace import Workspace

SECRET = "TOP-SECRET-4711"
_ONLY_INSIDE = 'test "$(cat /proc/sys/kernel/hostname)" = sandbox || exit 99; '


class Scene(NamedTuple):
    """A sandbox, what it must not touch, a process it must not reach, and ears on the network."""

    box: Sandbox
    root: Path
    outside: Path
    bystander: subprocess.Popen[bytes]
    ears: list[socket.socket]

    def fill(self, command: str) -> str:
        """Put this scene's places into a command."""
        words = {
            "ROOT": self.root,
            "OUTSIDE": self.outside,
            "PID": self.bystander.pid,
            "SELF": os.getpid(),
            "TCP": self.ears[0].getsockname()[1],
            "UDP": self.ears[1].getsockname()[1],
            "ABSTRACT": str(self.ears[2].getsockname()[1:], "utf-8"),
            "PYTHON": sys.executable,
        }
        for word, meant in words.items():
            command = command.replace(f"@{word}", str(meant))
        return command

    def heard(self) -> bool:
        """Whether anything arrived on the network or a socket."""
        for ear in self.ears:
            with contextlib.suppress(BlockingIOError):
                if ear.type == socket.SOCK_DGRAM:
                    ear.recv(10)
                else:
                    ear.accept()
                return True
        return False


def _ears(outside: Path) -> list[socket.socket]:
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0agentmesh-{os.getpid()}-{time.monotonic_ns()}")
    abstract.listen()
    path = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(outside)
    path.bind("ear.sock")
    os.chdir(here)
    path.listen()
    ears = [tcp, udp, abstract, path]
    for ear in ears:
        ear.setblocking(False)
    return ears


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    root, outside = tmp_path / "space", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text(f"{SECRET}\n")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / "note.txt").write_text("note\n")
    monkeypatch.setenv("AGENT_API_KEY", SECRET)
    bystander = subprocess.Popen(["sleep", "120"], env={"PLANTED": SECRET})
    box = Sandbox(root, limits=Limits(wall_s=6, cpu_s=3, memory=300_000_000, processes=64))
    ears = _ears(outside)
    yield Scene(box, root, outside, bystander, ears)
    alive = bystander.poll() is None
    bystander.kill()
    bystander.wait()
    for ear in ears:
        ear.close()
    assert alive, "a process outside was ended"


needs_bubblewrap = pytest.mark.skipif(
    Sandbox(Path(__file__).parent).confinement.kind != "bubblewrap", reason="needs bubblewrap"
)

_PY = "@PYTHON -c "
ESCAPES = {
    "read a file outside": "cat @OUTSIDE/secret.txt",
    "read by a relative path": "cat ../outside/secret.txt",
    "read through a link": "ln -s @OUTSIDE/secret.txt l; cat l",
    "read through the root of process 1": "cat /proc/1/root@OUTSIDE/secret.txt",
    "read through our own root": "cat /proc/self/root@OUTSIDE/secret.txt",
    "read through our working directory": "cat /proc/self/cwd/../outside/secret.txt",
    "read through the outer process": "cat /proc/@SELF/root@OUTSIDE/secret.txt",
    "read the outer environment": "cat /proc/@PID/environ /proc/@SELF/environ",
    "read our environment": "env; cat /proc/self/environ /proc/1/environ",
    "read inherited descriptors": "for f in /proc/self/fd/*; do timeout 1 cat $f 2>/dev/null & done; wait",
    "hard link a file outside": "ln @OUTSIDE/secret.txt l && cat l",
    "copy by mount": "mkdir m; mount --bind @OUTSIDE m; cat m/secret.txt",
    "mount a file system": "mkdir m; mount -t tmpfs none m && touch @OUTSIDE/pwned",
    "unmount what hides": "umount -l / ; umount -l @ROOT; cat @OUTSIDE/secret.txt",
    "remount writable": "mount -o remount,rw / ; mount -o remount,rw /usr; touch /usr/pwned",
    "pivot the root": "mkdir o; pivot_root . o; cat o@OUTSIDE/secret.txt",
    "leave a chroot": _PY
    + '\'import os; os.mkdir("c"); os.chroot("c"); [os.chdir("..") for _ in range(99)]; '
    + 'os.chroot("."); print(open("@OUTSIDE/secret.txt").read())\'',
    "enter the outer namespaces": "nsenter -t @SELF -a cat @OUTSIDE/secret.txt",
    "enter by process 1": "nsenter -t 1 -m cat @OUTSIDE/secret.txt",
    "make a user namespace": "unshare -Urm sh -c 'mount -t tmpfs none /usr && touch @OUTSIDE/x'",
    "read the raw disk": "cat /dev/sda /dev/vda /dev/nvme0n1 /dev/root | head -c 100",
    "make a disk device": "mknod d b 254 0 && head -c 100 d | grep -a . && echo @OUTSIDE",
    "read memory": "head -c 100 /dev/mem; head -c 100 /dev/kmem; head -c 100 /proc/kcore",
    "read passwords": "cat /etc/shadow && echo TOP-SECRET-4711",
    "read a home": "ls -A /root/.ssh /home/* ~/.ssh && cat /root/.bashrc && echo TOP-SECRET-4711",
    "write a file outside": "echo pwned > @OUTSIDE/pwned",
    "write by a relative path": "echo pwned > ../outside/pwned",
    "write through a link": "ln -s @OUTSIDE l; echo pwned > l/pwned",
    "write into the system": "touch /usr/bin/pwned /etc/pwned /bin/pwned && touch @OUTSIDE/pwned",
    "write into the interpreter": "touch $(dirname @PYTHON)/pwned && echo TOP-SECRET-4711",
    "write our own root": "touch /pwned && echo TOP-SECRET-4711",
    "write a kernel setting": _ONLY_INSIDE
    + "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern && echo TOP-SECRET-4711",
    "write a setting of memory": "cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness "
    "&& echo TOP-SECRET-4711",
    "write any file of /proc": "find /proc -maxdepth 4 -type f -user 0 -writable "
    "-not -path '/proc/[0-9]*' -not -path '/proc/self/*' -not -path '/proc/thread-self/*' "
    "-exec sh -c ': 2>/dev/null >> $1 && echo TOP-SECRET-4711 $1' sh {} ';' 2>/dev/null",
    "trigger the kernel": "echo c > /proc/sysrq-trigger && echo TOP-SECRET-4711",
    "write to /sys": "touch /sys/pwned || echo x > /sys/power/state && echo TOP-SECRET-4711",
    "remove everything": _ONLY_INSIDE + "rm -rf --no-preserve-root /outside @OUTSIDE ../outside",
    "plant a cron job": "echo '* * * * * root x' > /etc/cron.d/x && echo TOP-SECRET-4711",
    "connect over TCP": _PY + "'import socket; socket.create_connection((\"127.0.0.1\", @TCP), 2)'",
    "send over UDP": _PY
    + '\'import socket; socket.socket(2, 2).sendto(b"x", ("127.0.0.1", @UDP))\'',
    "connect over IPv6": _PY + "'import socket; socket.create_connection((\"::1\", @TCP), 2)'",
    "connect by a shell": "bash -c 'echo x > /dev/tcp/127.0.0.1/@TCP'",
    "connect to an abstract socket": _PY
    + "'import socket; socket.socket(1).connect(\"\\0@ABSTRACT\")'",
    "connect to a socket file": _PY
    + "'import socket; socket.socket(1).connect(\"@OUTSIDE/ear.sock\")'",
    "link to a socket file": "ln -s @OUTSIDE/ear.sock e; "
    + _PY
    + "'import socket; socket.socket(1).connect(\"e\")'",
    "bring the network up": "ip link add v type veth; ip link set lo up; "
    + _PY
    + "'import socket; socket.create_connection((\"127.0.0.1\", @TCP), 2)'",
    "ask a name server": "getent hosts example.com && echo TOP-SECRET-4711",
    "use docker": "test -S /var/run/docker.sock && echo TOP-SECRET-4711",
    "end a process outside": _ONLY_INSIDE + "kill -9 @PID @SELF",
    "end every process": _ONLY_INSIDE + "kill -9 -1; kill -9 -- -@PID",
    "end our parent": _ONLY_INSIDE + "kill -9 $PPID",
    "trace a process outside": _PY
    + "'import ctypes; print(ctypes.CDLL(None).ptrace(16, @PID, 0, 0) == 0 and \"TOP-SECRET-4711\")'",
    "see processes outside": "test -d /proc/@PID && grep -q sleep /proc/@PID/comm && echo TOP-SECRET-4711",
    "become somebody else": "su nobody -s /bin/sh -c 'cat @OUTSIDE/secret.txt'; sudo -n cat @OUTSIDE/secret.txt",
    "use a set-user-id program": "cp /bin/cat c; chmod u+s c; ./c @OUTSIDE/secret.txt",
    "type into the terminal": _PY
    + '\'import fcntl, termios; fcntl.ioctl(0, termios.TIOCSTI, b"x"); print("TOP-SECRET-4711")\'',
    "load a kernel module": "insmod m.ko; modprobe dummy && echo TOP-SECRET-4711",
    "set the clock": "date -s 2001-01-01 && echo TOP-SECRET-4711",
    "set the host name": "hostname pwned && echo TOP-SECRET-4711",
    "reboot": _ONLY_INSIDE + "reboot -f && echo TOP-SECRET-4711",
    "unpack an archive upwards": "tar -xPf up.tar; @PYTHON -m tarfile -e up.tar .; ls",
    "unpack an absolute archive": "tar -xPf abs.tar; ls",
    "unpack an archive's link": "tar -xPf link.tar; cat out/secret.txt; echo pwned > out/pwned",
    "unpack a zip upwards": "unzip -o up.zip; @PYTHON -m zipfile -e up.zip .; ls",
    "plant a git hook": "echo '#!/bin/sh' > .git/hooks/pre-commit && echo TOP-SECRET-4711",
    "configure git": "git config core.fsmonitor ./x && echo TOP-SECRET-4711",
    "write git's configuration": "echo '[core]' >> .git/config && echo TOP-SECRET-4711",
    "move git away": "mv .git gone && mkdir .git && echo TOP-SECRET-4711",
    "remove git": "rm -rf .git; test -e .git/HEAD || echo TOP-SECRET-4711",
    "link over git": "ln -sfn @OUTSIDE .git/hooks && echo TOP-SECRET-4711",
}


def _archives(scene: Scene) -> None:
    def add(archive: tarfile.TarFile, name: str, link: str = "") -> None:
        entry = tarfile.TarInfo(name)
        if link:
            entry.type, entry.linkname = tarfile.SYMTYPE, link
        archive.addfile(entry)

    with tarfile.open(scene.root / "up.tar", "w") as archive:
        add(archive, "../outside/pwned")
    with tarfile.open(scene.root / "abs.tar", "w") as archive:
        add(archive, str(scene.outside / "pwned"))
    with tarfile.open(scene.root / "link.tar", "w") as archive:
        add(archive, "out", str(scene.outside))
        add(archive, "out/pwned")
    with zipfile.ZipFile(scene.root / "up.zip", "w") as packed:
        packed.writestr("../outside/pwned", "pwned")


@needs_bubblewrap
@pytest.mark.parametrize("attempt", ESCAPES)
def test_no_attempt_succeeds(scene: Scene, attempt: str) -> None:
    _archives(scene)
    git = {path: path.read_bytes() for path in (scene.root / ".git").rglob("*") if path.is_file()}
    secret = os.open(scene.outside / "secret.txt", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        run = scene.box.run(scene.fill(ESCAPES[attempt]))
    finally:
        os.close(secret)
    assert run.status != 99, "the guard of a dangerous attempt says that we are not inside"
    assert SECRET not in run.text
    assert sorted(x.name for x in scene.outside.iterdir()) == ["ear.sock", "secret.txt"]
    assert (scene.outside / "secret.txt").read_text() == f"{SECRET}\n"
    assert not scene.heard()
    assert {p: p.read_bytes() for p in (scene.root / ".git").rglob("*") if p.is_file()} == git
    assert not Path("/usr/bin/pwned").exists()


@pytest.fixture(params=["bubblewrap", "restricted"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    limits = Limits(wall_s=25, cpu_s=1, memory=300_000_000, processes=64, file_size=1_000_000)
    made = Sandbox(tmp_path, limits=limits, bubblewrap=request.param == "bubblewrap")
    if made.confinement.kind != request.param:
        pytest.skip("needs bubblewrap")
    return made


def _survivors(word: str) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if word in line:
                    found.append(line)
    return found


DAEMONS = {
    "in the background": "sleep @ & echo started",
    "without a terminal": "nohup sleep @ >/dev/null 2>&1 & echo started",
    "in a new session": "setsid sleep @ & echo started",
    "as an orphan": "(setsid sh -c 'setsid sleep @ & exit' &) ; echo started",
    "deaf to signals": "(trap '' TERM HUP INT; setsid sleep @) & echo started",
    "holding the output": "setsid sleep @ >&1 & echo started",
    "after the time is over": "setsid sleep @ & echo started; sleep 30",
    "deaf after the time is over": "trap '' TERM; (trap '' TERM; setsid sleep @) & echo started; "
    "while :; do sleep 1; done",
}


@pytest.mark.parametrize("how", DAEMONS)
def test_no_child_survives(box: Sandbox, how: str) -> None:
    seconds = f"8{time.monotonic_ns() % 10_000_000}"
    run = box.run(DAEMONS[how].replace("@", seconds), timeout_s=4)
    assert "started" in run.text
    assert not _survivors(f"sleep {seconds}")
    assert run.seconds < 20


def _check(run: Run, kind: str, box: Sandbox) -> None:
    if kind == "time":
        assert run.ended == "it ran for more than 1 s"
        assert run.status is None
    elif kind == "cpu":
        assert run.status not in {0, None}
    elif kind == "memory":
        assert run.status != 0
        assert "got it" not in run.text
    elif kind == "output":
        assert run.produced > 50_000_000
        assert len(run.output) < 110_000
        assert "bytes cut here" in run.text
        assert run.ended
    elif kind == "file size":
        assert (box.root / "big").stat().st_size <= 1_000_000
        assert run.status != 0
    elif kind == "processes":
        assert run.ended.startswith("it started more than 64") or "ork" in run.text
        assert not _survivors("sleep 6.25")
    elif kind == "fork bomb":
        assert run.ended or "ork" in run.text


FLOODS = {
    "time": "sleep 30",
    "cpu": "while :; do :; done",
    "memory": f"{sys.executable} -c 'x = bytearray(10**9); print(\"got it\")'",
    "output": "yes agentmesh",
    "file size": "head -c 50000000 /dev/zero > big; test $(stat -c %s big) -gt 1000000",
    "processes": "for i in $(seq 400); do sleep 6.25 & done; wait",
    "fork bomb": "bomb() { bomb | bomb & }; bomb; sleep 5",
}


@pytest.mark.parametrize("kind", FLOODS)
def test_every_limit_holds(box: Sandbox, kind: str) -> None:
    held = box.confinement.kind == "bubblewrap" or os.geteuid() != 0 or controller() is not None
    if kind == "fork bomb" and not held:
        pytest.skip("to root it would slow every other test down: nothing counts its processes")
    run = box.run(FLOODS[kind], timeout_s=1 if kind == "time" else None)
    _check(run, kind, box)
    assert box.run("echo well").text == "well\n"


def test_the_environment_holds_nothing_of_ours(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    text = box.run("env").text
    assert SECRET not in text
    assert {line.partition("=")[0] for line in text.splitlines()} <= {
        *("HOME", "LANG", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE", "TERM", "OLDPWD", "SHLVL", "_"),
    }


def test_no_descriptor_is_inherited(box: Sandbox, tmp_path: Path) -> None:
    secret = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        listed = box.run("ls /proc/self/fd").text.split()
    finally:
        os.close(secret)
    assert set(listed) <= {"0", "1", "2", "3"}


def test_nothing_can_be_typed(box: Sandbox) -> None:
    assert box.run("cat; echo end").text == "end\n"


def test_a_restricted_subprocess_says_what_it_cannot_confine(tmp_path: Path) -> None:
    root, outside = tmp_path / "space", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    box = Sandbox(root, bubblewrap=False)
    told = " ".join(box.confinement.cannot)
    assert SECRET in box.run(f"cat {outside}/secret.txt").text
    assert "read every file" in told
    assert box.run(f"echo x > {outside}/written").status == 0
    assert "write every file" in told
    with socket.create_server(("127.0.0.1", 0)) as ear:
        box.run(f"bash -c 'echo x > /dev/tcp/127.0.0.1/{ear.getsockname()[1]}'")
        ear.settimeout(2)
        ear.accept()[0].close()
    assert "network" in told
    assert str(os.getpid()) in box.run("ls /proc").text.split()
    assert "processes" in told


def test_restricted_commands_need_approval_by_default(tmp_path: Path) -> None:
    space = Workspace(tmp_path, sandbox=Sandbox(tmp_path, bubblewrap=False))
    (runs,) = (item for item in space.tools() if item.name == "run_command")
    assert declaration(runs).needs_approval({"command": "true"})


@needs_bubblewrap
def test_confined_commands_need_none(tmp_path: Path) -> None:
    (runs,) = (x for x in Workspace(tmp_path).tools() if x.name == "run_command")
    assert not declaration(runs).needs_approval({"command": "true"})


def test_bubblewrap_that_does_not_work_is_not_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(
        "agentmesh.tools.sandbox.find", lambda name: str(broken) if name == "bwrap" else None
    )
    assert Sandbox(tmp_path).confinement.kind == "restricted"


def test_a_repository_made_by_a_command_is_set_aside(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    space.run_command("mkdir .git && echo '[core]' > .git/config")
    assert not (tmp_path / ".git").exists()
    assert [x for x in tmp_path.iterdir() if x.name.startswith("git-set-aside-")]


@needs_bubblewrap
def test_a_link_in_place_of_git_is_refused(tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / ".git").symlink_to("else")
    with pytest.raises(InputError, match="is a link"):
        Sandbox(tmp_path).run("true")
