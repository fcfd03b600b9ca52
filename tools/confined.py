"""Files beneath one directory, reached so that nothing leads outside it.

Every path is walked component by component from a descriptor of the root, each step opened
relative to the one before without following links (`openat` with `O_NOFOLLOW`). A link that is
swapped in between two steps makes the step fail; it is never followed. New content is written to
a new file that replaces the old one, so that a hard link to a file elsewhere is cut, not written.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from agentmesh.errors import ConfigError, InputError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_DEPTH = 64
_MAX_PATH = 4_000


class Content(NamedTuple):
    """A file's bytes and its permission bits."""

    data: bytes
    mode: int


class Item(NamedTuple):
    """An entry of a directory: `kind` is `file`, `dir`, `link` or `other`."""

    path: str
    kind: str
    size: int


def parts(path: str) -> tuple[str, ...]:
    """Return the components of a relative path, or raise InputError if it is none of ours.

    Refused are absolute paths, `..`, control characters, text that is no UTF-8, and `.git` in
    every spelling that some file system takes for it.
    """
    if not isinstance(path, str) or not path or len(path) > _MAX_PATH:
        raise _refused(path, "is no path", "give a path relative to the workspace, like src/a.py")
    if path.startswith(("/", "~", "\\")) or (len(path) > 1 and path[1] == ":"):
        raise _refused(path, "is not relative", "give a path relative to the workspace")
    if any(unicodedata.category(char) in {"Cc", "Cs"} for char in path):
        raise _refused(path, "holds control characters", "give a plain path")
    names = tuple(name for name in path.split("/") if name not in {"", "."})
    if ".." in names:
        raise _refused(path, "leads upwards", "give a path relative to the workspace, without ..")
    if len(names) > _MAX_DEPTH:
        raise _refused(path, "is too deep", f"use at most {_MAX_DEPTH} folders")
    if any(is_git(name) for name in names):
        raise _refused(path, "is git's own", "use the git tools")
    return names


def is_git(name: str) -> bool:
    """Whether some file system takes `name` for `.git`."""
    visible = "".join(char for char in name if unicodedata.category(char) != "Cf")
    folded = unicodedata.normalize("NFKC", visible).casefold().rstrip(". ")
    return folded.split(":")[0].rstrip(". ") in {".git", "git~1"}


class Confined:
    """The files beneath `root`; a path is always relative to it, with `/` between its parts."""

    def __init__(self, root: Path, *, max_bytes: int = 5_000_000) -> None:
        try:
            self.root = Path(root).resolve(strict=True)
            self._fd = os.open(self.root, _DIRECTORY)
        except OSError as error:
            raise ConfigError(
                f"{str(root)!r} cannot be a workspace: {error.strerror}",
                hint="name a directory that exists",
            ) from error
        self.max_bytes = max_bytes

    def close(self) -> None:
        """Let go of the root."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @contextmanager
    def directory(self, path: str, *, create: bool = False) -> Iterator[int]:
        """Give a descriptor of the directory `path` (`.` is the root)."""
        names = () if path in {"", "."} else parts(path)
        with self._walked(names, path, create=create) as fd:
            yield fd

    @contextmanager
    def _walked(self, names: tuple[str, ...], path: str, *, create: bool = False) -> Iterator[int]:
        fd = os.dup(self._fd)
        try:
            for name in names:
                if create:
                    _make_directory(name, fd)
                try:
                    inner = os.open(name, _DIRECTORY, dir_fd=fd)
                except OSError as error:
                    raise _explained(path, error) from error
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _parent(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """Give the descriptor of the directory that holds `path`, and its name in it."""
        names = parts(path)
        if not names:
            raise _refused(path, "is the workspace itself", "name something in it")
        with self._walked(names[:-1], path, create=create) as fd:
            yield fd, names[-1]

    def look(self, path: str) -> os.stat_result | None:
        """Return what `path` itself is (a link is a link), or None if it does not exist."""
        try:
            with self._parent(path) as (fd, name):
                return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _explained(path, error) from error
        except InputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def read(self, path: str) -> Content:
        """Return a file's content; links, devices, pipes and huge files are refused."""
        with self._parent(path) as (fd, name):
            try:
                file = os.open(name, _FILE, dir_fd=fd)
            except OSError as error:
                raise _explained(path, error) from error
            found = os.fstat(file)
            try:
                self._check_file(path, found)
            except InputError:
                os.close(file)
                raise
            with os.fdopen(file, "rb") as opened:
                return Content(opened.read(self.max_bytes + 1), stat.S_IMODE(found.st_mode))

    def _check_file(self, path: str, found: os.stat_result) -> None:
        if stat.S_ISDIR(found.st_mode):
            raise _refused(path, "is a folder", "list it instead")
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "is no ordinary file", "leave it alone")
        if found.st_nlink > 1:
            raise _refused(path, "has a second name, perhaps outside", "copy it by a command first")
        if found.st_size > self.max_bytes:
            raise _refused(
                path, f"is too large ({found.st_size:,} bytes)", "search it, or cut it by a command"
            )

    def write(self, path: str, data: bytes, mode: int | None = None) -> None:
        """Put `data` at `path` at once, making the folders above it; a link is refused."""
        if len(data) > self.max_bytes:
            raise _refused(path, f"would be {len(data):,} bytes", "write less")
        with self._parent(path, create=True) as (fd, name):
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                kept = 0o644
            except OSError as error:
                raise _explained(path, error) from error
            else:
                if not stat.S_ISREG(found.st_mode):
                    raise _refused(path, "is no ordinary file", "choose another path")
                kept = stat.S_IMODE(found.st_mode) & 0o777
            self._replace(fd, name, data, kept if mode is None else mode & 0o777, path)

    def _replace(self, fd: int, name: str, data: bytes, mode: int, path: str) -> None:
        passing = f".agentmesh-{secrets.token_hex(8)}"
        try:
            file = os.open(passing, _NEW, 0o600, dir_fd=fd)
            with os.fdopen(file, "wb") as opened:
                opened.write(data)
                os.fchmod(opened.fileno(), mode)
            os.replace(passing, name, src_dir_fd=fd, dst_dir_fd=fd)
        except OSError as error:
            with suppress(FileNotFoundError):
                os.unlink(passing, dir_fd=fd)
            raise _explained(path, error) from error

    def remove(self, path: str) -> None:
        """Remove the file `path`; a folder is refused, and a link is removed, not followed."""
        with self._parent(path) as (fd, name):
            try:
                os.unlink(name, dir_fd=fd)
            except OSError as error:
                raise _explained(path, error) from error

    def move(self, source: str, target: str) -> None:
        """Rename a file or folder; what is at `target` already is never replaced."""
        if parts(target)[: len(parts(source))] == parts(source):
            raise _refused(target, "lies within what is moved", "choose another path")
        with (
            self._parent(source) as (source_fd, source_name),
            self._parent(target, create=True) as (target_fd, target_name),
        ):
            try:
                found = os.stat(source_name, dir_fd=source_fd, follow_symlinks=False)
                if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                    raise _refused(source, "is a link or no ordinary file", "leave it where it is")
                if _exists(target_name, target_fd):
                    raise _refused(target, "exists", "choose another path")
                os.rename(source_name, target_name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
            except OSError as error:
                raise _explained(source, error) from error

    def walk(self, path: str = ".", *, depth: int = _MAX_DEPTH) -> Iterator[Item]:
        """Give what lies beneath `path`, sorted, folders before their content; links stay shut."""
        prefix = "" if path in {"", "."} else "/".join(parts(path)) + "/"
        with self.directory(path) as fd:
            yield from self._walk(fd, prefix, depth)

    def _walk(self, fd: int, prefix: str, depth: int) -> Iterator[Item]:
        for name in sorted(os.listdir(fd)):
            if is_git(name):
                continue
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except OSError:
                continue  # it went away while we looked
            kind = _kind(found.st_mode)
            shown = prefix + name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            yield Item(shown, kind, found.st_size)
            if kind != "dir" or depth <= 1:
                continue
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
            except OSError:
                continue  # unreadable, or no longer a folder
            try:
                yield from self._walk(inner, f"{shown}/", depth - 1)
            finally:
                os.close(inner)


def _kind(mode: int) -> str:
    for test, kind in ((stat.S_ISREG, "file"), (stat.S_ISDIR, "dir"), (stat.S_ISLNK, "link")):
        if test(mode):
            return kind
    return "other"


def _exists(name: str, fd: int) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make_directory(name: str, fd: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=fd)
    except FileExistsError:
        pass
    except OSError as error:
        raise _explained(name, error) from error


def _refused(path: object, why: str, hint: str) -> InputError:
    shown = path if isinstance(path, str) and len(path) < 200 else str(path)[:200]
    return InputError(f"{shown!r} {why}", hint=hint)


def _explained(path: str, error: OSError) -> InputError:
    told = {
        errno.ENOENT: ("does not exist", "list the folder to see what does"),
        errno.ELOOP: ("is or lies behind a link", "use the place that it names, if it is inside"),
        errno.ENOTDIR: ("lies behind a link or a file", "list the folder to see what is there"),
        errno.EISDIR: ("is a folder", "list it instead"),
        errno.EACCES: ("may not be touched", "leave it alone"),
        errno.EPERM: ("may not be touched", "leave it alone"),
        errno.ENAMETOOLONG: ("has a part that is too long", "use a shorter name"),
        errno.ENOSPC: ("does not fit on the disk", "tell the person"),
    }
    why, hint = told.get(error.errno or 0, (f"failed: {error.strerror}", "try another path"))
    return _refused(path, why, hint)
