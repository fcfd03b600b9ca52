"""Every attempt to reach out of a workspace through its tools, one case each."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agentmesh.errors import InputError
from agentmesh.tools.workspace import Workspace

SECRET = "TOP-SECRET-4711"


class Scene(NamedTuple):
    """A workspace, and next to it what must be neither read nor touched."""

    space: Workspace
    root: Path
    outside: Path
    said: list[str]

    def attempt(self, act: Callable[[], object]) -> None:
        """Try something; keep what came of it."""
        try:
            self.said.append(str(act()))
        except InputError as error:
            self.said.append(f"{error} {error.hint}")


def _git(root: Path, *args: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *args],
        cwd=root,
        check=True,
        capture_output=True,
    )


def _fingerprint(folder: Path) -> str:
    rows = []
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        rows.append(f"{path}|{path.lstat().st_mode}|{hashlib.sha256(content).hexdigest()}")
    return "\n".join(rows)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    root, outside = tmp_path / "space", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text(f"{SECRET}\n")
    (outside / "folder").mkdir()
    (root / "src").mkdir()
    (root / "src" / "a.py").write_text("print('a')\n")
    (root / "note.txt").write_text("note\n")
    _git(root, "init", "-q", "-b", "main")
    _git(root, "add", ".")
    _git(root, "commit", "-qm", "first")
    before = _fingerprint(outside)
    made = Scene(Workspace(root), root, outside, [])
    yield made
    made.space.close()
    assert _fingerprint(outside) == before, "something outside was changed"
    assert made.said, "the attempt did nothing"
    assert SECRET not in "\n".join(made.said), "something outside was read"


def _patch(path: str) -> str:
    return f"--- {path}\n+++ {path}\n@@ -1 +1 @@\n-{SECRET}\n+pwned\n"


def _every_way(scene: Scene, path: str) -> None:
    space = scene.space
    for act in (
        lambda: space.read_file(path),
        lambda: space.list_files(path),
        lambda: space.search_files("SECRET", path),
        lambda: space.edit_file(path, SECRET, "pwned"),
        lambda: space.apply_patch(_patch(path)),
        lambda: space.move_file(path, "got.txt"),
        lambda: space.read_file("got.txt"),
        lambda: space.delete_file(path),
        lambda: space.write_file(path, "pwned"),
        lambda: space.move_file("note.txt", path),
        lambda: space.git_diff(path),
    ):
        scene.attempt(act)


PATHS = [
    "../outside/secret.txt",
    "./../outside/secret.txt",
    "src/../../outside/secret.txt",
    "src/../src/../../outside/secret.txt",
    "none/../../outside/secret.txt",
    "..",
    "../",
    "src/../..",
    "//ABS",
    "/ABS",
    "./ABS",
    "~/x",
    "~root/x",
    "..\\outside\\secret.txt",
    "\\\\host\\share\\x",
    "C:\\Windows\\x",
    "C:/x",
    "file:///ABS",
    "%2e%2e/outside/secret.txt",
    "..%2foutside%2fsecret.txt",
    "..%c0%afoutside/secret.txt",
    "．．/outside/secret.txt",
    "‥/outside/secret.txt",
    ".\u200b./outside/secret.txt",
    "\u202e../outside/secret.txt",
    "..∕outside∕secret.txt",
    "..;/outside/secret.txt",
    "....//outside/secret.txt",
    "..\x00/outside/secret.txt",
    "note.txt\x00/../../outside/secret.txt",
    "..\n/outside/secret.txt",
    "\ud800/../outside/secret.txt",
    "/proc/self/cwd/../outside/secret.txt",
    "/proc/self/root/ABS",
    "/dev/stdin",
    "x/" * 3000 + "../" * 3001,
    "a/" * 100 + "b",
    "n" * 300,
    "$HOME/x",
    "`pwd`/../outside/secret.txt",
    "--output=../outside/pwned",
    ":(top)../outside/secret.txt",
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ascii(path[:40]))
def test_a_path_leads_nowhere_outside(scene: Scene, path: str) -> None:
    _every_way(scene, path.replace("ABS", str(scene.outside / "secret.txt").lstrip("/")))
    assert sorted(x.name for x in scene.outside.iterdir()) == ["folder", "secret.txt"]


GIT_PATHS = [
    ".git/config",
    ".git/hooks/pre-commit",
    "./.git/config",
    "src/../.git/config",
    ".GIT/config",
    ".Git/hooks/pre-commit",
    ".git /config",
    ".git./config",
    "git~1/config",
    "GIT~1/config",
    ".g\u200cit/config",
    "\ufeff.git/config",
    "．git/config",
    ".git::$INDEX_ALLOCATION/config",
    "src/.git/hooks/pre-commit",
    ".git",
]


@pytest.mark.parametrize("path", GIT_PATHS, ids=ascii)
def test_git_itself_is_out_of_reach(scene: Scene, path: str) -> None:
    before = (scene.root / ".git" / "config").read_bytes()
    _every_way(scene, path)
    assert (scene.root / ".git" / "config").read_bytes() == before
    assert not (scene.root / ".git" / "hooks" / "pre-commit").exists()
    found = {x.name for x in scene.root.rglob("*") if ".git/" not in f"{x}/"}
    assert not {name for name in found if "config" in name or "pre-commit" in name}


def _link_to_file(scene: Scene) -> str:
    (scene.root / "link").symlink_to(scene.outside / "secret.txt")
    return "link"


def _link_to_folder(scene: Scene) -> str:
    (scene.root / "link").symlink_to(scene.outside)
    return "link/secret.txt"


def _relative_link(scene: Scene) -> str:
    (scene.root / "src" / "link").symlink_to("../../outside/secret.txt")
    return "src/link"


def _chain(scene: Scene) -> str:
    (scene.root / "three").symlink_to(scene.outside)
    (scene.root / "two").symlink_to("three")
    (scene.root / "one").symlink_to("two")
    return "one/secret.txt"


def _link_to_root(scene: Scene) -> str:
    (scene.root / "link").symlink_to("/")
    return "link" + str(scene.outside / "secret.txt")


def _link_to_proc(scene: Scene) -> str:
    (scene.root / "link").symlink_to("/proc/self/root")
    return "link" + str(scene.outside / "secret.txt")


def _link_to_cwd(scene: Scene) -> str:
    (scene.root / "link").symlink_to("/proc/self/fd")
    return f"link/{os.dup(0)}"


def _dangling(scene: Scene) -> str:
    (scene.root / "link").symlink_to(scene.outside / "new.txt")
    return "link"


def _link_in_the_middle(scene: Scene) -> str:
    (scene.root / "src" / "folder").symlink_to(scene.outside / "folder")
    return "src/folder/../secret.txt"


def _link_to_new_folder(scene: Scene) -> str:
    (scene.root / "link").symlink_to(scene.outside / "folder")
    return "link/deep/new.txt"


def _link_to_itself(scene: Scene) -> str:
    (scene.root / "link").symlink_to("link")
    return "link"


def _hard_link(scene: Scene) -> str:
    os.link(scene.outside / "secret.txt", scene.root / "link")
    return "link"


def _link_of_an_archive(scene: Scene) -> str:
    """Unpack, as git or tar would, a link and a file that lies behind it."""
    _git(scene.root, "config", "core.symlinks", "true")
    (scene.root / "unpacked").symlink_to(scene.outside)
    _git(scene.root, "add", "unpacked")
    return "unpacked/secret.txt"


LINKS = [
    _link_to_file,
    _link_to_folder,
    _relative_link,
    _chain,
    _link_to_root,
    _link_to_proc,
    _link_to_cwd,
    _dangling,
    _link_in_the_middle,
    _link_to_new_folder,
    _link_to_itself,
    _hard_link,
    _link_of_an_archive,
]


@pytest.mark.parametrize("make", LINKS)
def test_a_link_is_never_followed(scene: Scene, make: Callable[[Scene], str]) -> None:
    path = make(scene)
    _every_way(scene, path)
    scene.attempt(lambda: scene.space.list_files(".", depth=9))
    scene.attempt(lambda: scene.space.search_files("TOP.SECRET"))


def test_search_follows_no_link_without_ripgrep_either(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentmesh.tools.search.find", lambda name: None)
    _link_to_folder(scene)
    (scene.root / "again").symlink_to(scene.outside / "secret.txt")
    for path in (".", "link", "again", "../outside"):
        scene.attempt(lambda path=path: scene.space.search_files("TOP.SECRET", path))


def test_a_pipe_does_not_hang_a_tool(scene: Scene) -> None:
    os.mkfifo(scene.root / "pipe")
    began = time.monotonic()
    _every_way(scene, "pipe")
    assert time.monotonic() - began < 10


def test_a_socket_is_no_file(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scene.root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        _every_way(scene, "s")


def test_a_device_is_no_file(scene: Scene) -> None:
    try:
        os.mknod(scene.root / "zero", 0o666 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        (scene.root / "zero").symlink_to("/dev/zero")
    began = time.monotonic()
    _every_way(scene, "zero")
    assert time.monotonic() - began < 10


def _race(scene: Scene, act: Callable[[str], object]) -> None:
    """Swap a folder for a link to the outside, over and over, while `act` works in it."""
    inside, kept = scene.root / "swap", scene.root / "kept"
    inside.mkdir()
    (inside / "secret.txt").write_text("harmless\n")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                inside.rename(kept)
                inside.symlink_to(scene.outside)
                inside.unlink()
                kept.rename(inside)
            with contextlib.suppress(OSError):
                if inside.is_symlink():
                    inside.unlink()
                if kept.exists() and not inside.exists():
                    kept.rename(inside)

    thread = threading.Thread(target=swap)
    thread.start()
    until = time.monotonic() + 0.6
    try:
        while time.monotonic() < until:
            scene.attempt(lambda: act("swap/secret.txt"))
    finally:
        over.set()
        thread.join()


RACES: dict[str, Callable[[Workspace], Callable[[str], object]]] = {
    "read": lambda space: space.read_file,
    "list": lambda space: lambda path: space.list_files("swap", depth=3),
    "search": lambda space: lambda path: space.search_files("TOP.SECRET", "swap"),
    "write": lambda space: lambda path: space.write_file(path, "pwned"),
    "write deeper": lambda space: lambda path: space.write_file("swap/folder/x/new.txt", "pwned"),
    "edit": lambda space: lambda path: space.edit_file(path, "S", "pwned", everywhere=True),
    "delete": lambda space: space.delete_file,
    "move in": lambda space: (
        lambda path: (
            space.write_file("fresh.txt", "pwned"),
            space.move_file("fresh.txt", "swap/folder/fresh.txt"),
        )
    ),
    "move out": lambda space: (
        lambda path: (
            space.move_file(path, "stolen.txt"),
            space.read_file("stolen.txt"),
            space.move_file("stolen.txt", path),
        )
    ),
}


@pytest.mark.parametrize("way", RACES)
def test_a_race_leads_nowhere_outside(scene: Scene, way: str) -> None:
    _race(scene, RACES[way](scene.space))


PROGRAM_KEYS = {
    "fsmonitor": [("core.fsmonitor", "PROGRAM")],
    "hooks path": [("core.hooksPath", "HOOKS")],
    "clean filter": [("filter.x.clean", "PROGRAM"), ("filter.x.required", "true")],
    "smudge filter": [("filter.x.smudge", "PROGRAM")],
    "process filter": [("filter.x.process", "PROGRAM")],
    "filter of an odd name": [("filter.a=b.c.clean", "PROGRAM")],
    "textconv": [("diff.x.textconv", "PROGRAM")],
    "diff driver": [("diff.x.command", "PROGRAM")],
    "external diff": [("diff.external", "PROGRAM")],
    "merge driver": [("merge.x.driver", "PROGRAM")],
    "pager": [("core.pager", "PROGRAM"), ("pager.status", "PROGRAM"), ("pager.diff", "PROGRAM")],
    "editor": [("core.editor", "PROGRAM"), ("sequence.editor", "PROGRAM")],
    "signing": [("commit.gpgSign", "true"), ("gpg.program", "PROGRAM"), ("gpg.format", "openpgp")],
    "aliases": [
        ("alias.status", "!PROGRAM"),
        ("alias.diff", "!PROGRAM"),
        ("alias.add", "!PROGRAM"),
    ],
    "ssh": [("core.sshCommand", "PROGRAM"), ("remote.origin.url", "ssh://x@localhost/y")],
    "missing objects": [
        ("extensions.partialClone", "evil"),
        ("core.repositoryFormatVersion", "1"),
        ("remote.evil.promisor", "true"),
        ("remote.evil.url", "ext::PROGRAM"),
        ("protocol.ext.allow", "always"),
        ("remote.evil.uploadpack", "PROGRAM"),
    ],
    "work tree elsewhere": [("core.worktree", "OUTSIDE")],
    "bare": [("core.bare", "true")],
    "include": [("include.path", "INCLUDED")],
    "credential helper": [("credential.helper", "!PROGRAM")],
    "trailer": [("trailer.x.command", "PROGRAM"), ("trailer.x.cmd", "PROGRAM")],
    "attributes elsewhere": [("core.attributesFile", "ATTRIBUTES"), ("filter.x.clean", "PROGRAM")],
}


def _plant(scene: Scene, keys: list[tuple[str, str]]) -> Path:
    """Write a repository configuration that names a program; return what it would leave."""
    trace = scene.root.parent / "pwned"
    program = scene.root.parent / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {trace}\ncat 2>/dev/null\n")
    program.chmod(0o755)
    hooks = scene.root.parent / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "post-commit", "reference-transaction", "post-index-change"):
        (hooks / name).symlink_to(program)
    included = scene.root.parent / "included"
    included.write_text(f'[core]\n\tfsmonitor = {program}\n[filter "x"]\n\tclean = {program}\n')
    attributes = scene.root.parent / "attributes"
    attributes.write_text("* filter=x\n")
    words = {
        "PROGRAM": str(program),
        "HOOKS": str(hooks),
        "INCLUDED": str(included),
        "ATTRIBUTES": str(attributes),
        "OUTSIDE": str(scene.outside),
    }
    for key, value in keys:
        for word, meant in words.items():
            value = value.replace(word, meant)
        section, _, name = key.rpartition(".")
        head, _, sub = section.partition(".")
        shown = f'[{head} "{sub}"]' if sub else f"[{head}]"
        with (scene.root / ".git" / "config").open("a") as config:
            config.write(f"{shown}\n\t{name} = {value}\n")
    (scene.root / ".gitattributes").write_text("*.py filter=x diff=x merge=x\n*.txt filter=a=b.c\n")
    return trace


def _use_git(scene: Scene) -> None:
    space = scene.space
    (scene.root / "src" / "a.py").write_text("print('changed')\n")
    (scene.root / "note.txt").write_text("changed\n")
    (scene.root / "new.py").write_text("new\n")
    for act in (
        space.git_status,
        space.git_diff,
        lambda: space.git_commit("change"),
        space.git_status,
        space.undo,
    ):
        scene.attempt(act)


@pytest.mark.parametrize("kind", PROGRAM_KEYS)
def test_a_configured_program_is_not_run(scene: Scene, kind: str) -> None:
    trace = _plant(scene, PROGRAM_KEYS[kind])
    _use_git(scene)
    assert not trace.exists()
    assert "committed" in "\n".join(scene.said), scene.said


HOOKS = ["pre-commit", "commit-msg", "post-commit", "reference-transaction", "post-index-change"]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_not_run(scene: Scene, hook: str) -> None:
    trace = scene.root.parent / "pwned"
    path = scene.root / ".git" / "hooks" / hook
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\ntouch {trace}\n")
    path.chmod(0o755)
    _use_git(scene)
    assert not trace.exists()
    assert "committed" in "\n".join(scene.said)


def test_a_submodules_programs_are_not_run(scene: Scene) -> None:
    inner = scene.root / "inner"
    inner.mkdir()
    _git(inner, "init", "-q")
    (inner / "x").write_text("x")
    _git(inner, "add", ".")
    _git(inner, "commit", "-qm", "x")
    trace = scene.root.parent / "pwned"
    with (inner / ".git" / "config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = touch {trace}; false\n")
    _use_git(scene)
    assert not trace.exists()


def test_a_git_file_that_points_elsewhere_is_not_believed(scene: Scene) -> None:
    hostile = scene.root.parent / "hostile"
    hostile.mkdir()
    _git(hostile, "init", "-q")
    (scene.root / ".git").rename(scene.root.parent / "real")
    _git(scene.root, "init", "-q", "--separate-git-dir", str(scene.root.parent / "real2"))
    (scene.root / ".git").write_text(f"gitdir: {hostile}/.git\n")
    _use_git(scene)
    assert not list((hostile / ".git" / "refs" / "heads").iterdir())
    assert "not the repository that it was" in scene.said[0]


@pytest.mark.parametrize(
    "name", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_EXTERNAL_DIFF"]
)
def test_the_environment_does_not_steer_git(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hostile = scene.root.parent / "hostile"
    hostile.mkdir()
    _git(hostile, "init", "-q")
    monkeypatch.setenv(name, str(hostile / ".git"))
    _use_git(scene)
    assert not list((hostile / ".git" / "refs" / "heads").iterdir())
    assert "committed" in "\n".join(scene.said)


@pytest.mark.parametrize(
    "message", ["--amend", "-F../outside/secret.txt", "--file=../outside/secret.txt"]
)
def test_a_commit_message_is_no_option(scene: Scene, message: str) -> None:
    (scene.root / "note.txt").write_text("changed\n")
    scene.attempt(lambda: scene.space.git_commit(message))
    log = subprocess.run(
        ["git", "log", "--format=%s"], cwd=scene.root, check=True, capture_output=True, text=True
    )
    assert log.stdout.splitlines() == [message, "first"]


def test_a_program_in_the_workspace_is_not_taken_for_git(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = scene.root.parent / "pwned"
    for name in ("git", "rg"):
        (scene.root / name).write_text(f"#!/bin/sh\ntouch {trace}\n")
        (scene.root / name).chmod(0o755)
    monkeypatch.chdir(scene.root)
    monkeypatch.setenv("PATH", f".::{os.environ['PATH']}")
    _use_git(scene)
    scene.attempt(lambda: scene.space.search_files("x"))
    assert not trace.exists()
