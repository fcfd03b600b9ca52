"""Git on a repository that may be hostile: nothing that it configures is run.

A repository can name programs in its hooks, filters, drivers, monitors and transports, and git
runs them on a mere `status`. Here git starts with an environment of our own, reads no system or
user configuration, and every key of the repository's that could name a program is overridden.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agentmesh.errors import ConfigError, InputError
from agentmesh.tools.programs import find, search_path

TIMEOUT_S = 30.0
_FIXED = {
    "advice.detachedhead": "false",
    "commit.gpgsign": "false",
    "core.askpass": "",
    "core.attributesfile": os.devnull,
    "core.bare": "false",
    "core.editor": ":",
    "core.excludesfile": os.devnull,
    "core.fsmonitor": "false",
    "core.hookspath": os.devnull,
    "core.pager": "cat",
    "core.quotepath": "false",
    "core.sshcommand": "false",
    "diff.external": "",
    "diff.ignoresubmodules": "all",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "submodule.recurse": "false",
}
_PROGRAMS = frozenset(
    {
        *("alternaterefscommand", "askpass", "browser", "clean", "cmd", "command", "driver"),
        *("editor", "fsmonitor", "gitproxy", "helper", "hookspath", "pager", "process"),
        *("program", "proxy", "pushurl", "receivepack", "smudge", "sshcommand", "textconv"),
        *("tool", "uploadpack", "url", "vcs"),
    }
)
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_ASKPASS": ":",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_EDITOR": ":",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "GIT_SSH_COMMAND": "false",
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": os.devnull,
    "LC_ALL": "C.UTF-8",
    "XDG_CONFIG_HOME": os.devnull,
}


class Author(NamedTuple):
    """Whose name commits carry."""

    name: str = "agentmesh"
    email: str = "agentmesh@localhost"


class Git:
    """The git of one work tree whose git directory is fixed, whatever `.git` says later."""

    def __init__(self, root: Path, git_dir: Path, author: Author) -> None:
        self.root = root
        self.git_dir = git_dir
        self._is = _identity(git_dir)
        self.author = author

    @classmethod
    def of(cls, root: Path, author: Author | None = None) -> Git | None:
        """Return the git whose work tree is exactly `root`, or None."""
        if find("git") is None:
            return None
        root = root.resolve()
        asked = ["rev-parse", "--absolute-git-dir", "--show-toplevel"]
        try:
            answer = _git(asked, cwd=root, settings={}).decode("utf-8", "surrogateescape")
        except InputError:
            return None
        git_dir, top = answer.splitlines()[:2]
        if Path(top).resolve() != root:
            return None
        return cls(root, Path(git_dir), author or Author())

    @classmethod
    def create(cls, root: Path, author: Author | None = None) -> Git:
        """Make `root` a repository whose first commit holds the files that it has."""
        _git(["init", "--quiet", "--initial-branch=main"], cwd=root, settings={})
        made = cls.of(root, author)
        if made is None:
            raise ConfigError(f"{str(root)!r} cannot be a repository", hint="is git installed?")
        made.commit("Begin")
        return made

    def run(
        self, *args: str, stdin: bytes = b"", index: Path | None = None, tree: bool = True
    ) -> bytes:
        """Return the output of `git args`; a failure is an InputError with git's own words."""
        if _identity(self.git_dir) != self._is:
            raise InputError(
                f"{str(self.git_dir)!r} is not the repository that it was", hint="tell the person"
            )
        here = {"GIT_DIR": str(self.git_dir)}
        if tree:
            here["GIT_WORK_TREE"] = str(self.root)
        if index is not None:
            here["GIT_INDEX_FILE"] = str(index)
        for role in ("AUTHOR", "COMMITTER"):
            here[f"GIT_{role}_NAME"], here[f"GIT_{role}_EMAIL"] = self.author
        keys = _git(["config", "--list", "-z", "--name-only"], cwd=self.root, settings=here)
        named = keys.decode("utf-8", "surrogateescape").split("\0")
        emptied = {key: "" for key in named if _last(key) in _PROGRAMS and key not in _FIXED}
        optional = {key: "false" for key in named if _last(key) == "required"}
        settings = {**here, **_settings({**emptied, **optional, **_FIXED})}
        return _git(args, cwd=self.root, settings=settings, stdin=stdin)

    def text(self, *args: str) -> str:
        """Return the output of `git args` as text."""
        return self.run(*args).decode("utf-8", "replace")

    def status(self) -> str:
        """Return the branch and the changed files, one a line."""
        return self.text("status", "--porcelain=v1", "--branch", "--ignore-submodules=all")

    def diff(self, base: str = "HEAD", path: str | None = None) -> str:
        """Return what differs from `base`, new files included, as a unified diff."""
        return self._diff(base, path, "--no-color").decode("utf-8", "replace")

    def patch(self, base: str = "HEAD") -> bytes:
        """Return what differs from `base` in the form that `git apply` takes, binary included."""
        return self._diff(base, None, "--binary", "--full-index")

    def _diff(self, base: str, path: str | None, *options: str) -> bytes:
        where = ["--", path] if path else []
        fixed = ["--no-ext-diff", "--no-textconv", "--ignore-submodules=all", "--no-renames"]
        return self.run("diff", *fixed, *options, base, self.snapshot(), *where)

    def head(self) -> str:
        """Return the name of the current commit; empty before the first one."""
        try:
            return self.text("rev-parse", "--verify", "-q", "HEAD").strip()
        except InputError:
            return ""

    def empty(self) -> str:
        """Return the name of the tree without files."""
        return self.run("hash-object", "-w", "-t", "tree", "--stdin").decode().strip()

    def snapshot(self) -> str:
        """Return the name of a tree that holds the files as they are now, ignored ones left out."""
        index = self.git_dir / f"agentmesh-index-{os.getpid()}-{os.urandom(4).hex()}"
        try:
            kept = self.git_dir / "index"
            if kept.exists():
                shutil.copy2(kept, index)
            self.run("add", "--all", "--", ".", index=index)
            return self.run("write-tree", index=index).decode().strip()
        finally:
            index.unlink(missing_ok=True)
            index.with_name(index.name + ".lock").unlink(missing_ok=True)

    def changed(self, before: str, after: str) -> tuple[str, ...]:
        """Return the paths that differ between two trees."""
        names = self.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", before, after)
        return tuple(name.decode("utf-8", "surrogateescape") for name in names.split(b"\0") if name)

    def blob(self, tree: str, path: str) -> tuple[bytes, int] | None:
        """Return a file's content and mode in `tree`; None if it is no file there."""
        row = self.run("ls-tree", "-z", tree, "--", path).split(b"\0")[0].decode("utf-8", "replace")
        mode, kind, name = (*row.split("\t")[0].split(), "", "", "")[:3]
        if kind != "blob" or not mode.startswith("100"):
            return None
        return self.run("cat-file", "blob", name), int(mode[-3:], 8)

    def commit(self, message: str) -> str:
        """Commit every change and return the commit's name."""
        if not message.strip():
            raise InputError("a commit needs a message", hint="say why in a sentence")
        self.run("add", "--all", "--", ".")
        self.run(
            "commit", "--quiet", "--no-verify", "--no-gpg-sign", "--file=-", stdin=message.encode()
        )
        return self.head()

    def uncommit(self, commit: str, before: str) -> None:
        """Move the branch back from `commit` to `before`; the files stay as they are."""
        if not before:
            raise InputError("the first commit cannot be undone", hint="remove .git by hand")
        self.run("update-ref", "HEAD", before, commit)
        self.run("read-tree", before)

    def worktree(self, target: Path) -> Git:
        """Check `HEAD` out at `target`, on no branch, and return its git."""
        self.run("worktree", "add", "--detach", "--quiet", str(target), "HEAD", tree=False)
        made = Git.of(target, self.author)
        if made is None:
            raise ConfigError(f"no work tree came to be at {str(target)!r}", hint="is it in use?")
        return made

    def forget(self, target: Path) -> None:
        """Remove the work tree at `target`."""
        self.run("worktree", "remove", "--force", str(target), tree=False)

    def apply(self, patch: bytes, *, back: bool = False) -> None:
        """Apply a patch to the files, or take it `back`; if it does not fit, change nothing."""
        if patch:
            ways = ["--reverse"] if back else []
            self.run("apply", "--whitespace=nowarn", *ways, "-", stdin=patch)


def _last(key: str) -> str:
    return key.rpartition(".")[2].lower()


def _identity(git_dir: Path) -> tuple[int, int]:
    """Return what tells a directory from any other that takes its place later."""
    try:
        found = git_dir.lstat()
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _settings(overrides: Mapping[str, str]) -> dict[str, str]:
    """Return configuration as environment, where no key can be mistaken for another's value."""
    rows = {"GIT_CONFIG_COUNT": str(len(overrides))}
    for number, (key, value) in enumerate(overrides.items()):
        rows[f"GIT_CONFIG_KEY_{number}"], rows[f"GIT_CONFIG_VALUE_{number}"] = key, value
    return rows


def _git(
    args: Sequence[str], *, cwd: Path, settings: Mapping[str, str], stdin: bytes = b""
) -> bytes:
    environment = {"PATH": search_path(), **_ENVIRONMENT, **settings}
    try:
        done = subprocess.run(
            [find("git") or "git", *args],
            cwd=cwd,
            env=environment,
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"git {args[0]} took more than {TIMEOUT_S:g} s", hint="ask less"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"git cannot run: {error}", hint="is git installed?") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
        raise InputError(f"git {args[0]} failed: {said[-1][:300]}", hint="look at git_status")
    return done.stdout
