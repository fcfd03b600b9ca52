"""The hands of a coding agent: files, git and commands within one directory.

Each method is a tool (`Workspace.tools()`); its docstring is what the model reads. What a method
cannot or will not do is an InputError with a hint, and changes nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from langchain_core.tools import BaseTool

from agentmesh.errors import ConfigError, InputError
from agentmesh.tools.confined import Confined
from agentmesh.tools.declarations import Approval, tool
from agentmesh.tools.git import Author, Git
from agentmesh.tools.handles import Handles
from agentmesh.tools.patch import applied
from agentmesh.tools.sandbox import Limits, Run, Sandbox
from agentmesh.tools.search import search
from agentmesh.tools.undo import Change, UndoLog, fingerprint, take_back

_MAX_LISTED = 500
_MAX_LINES = 400
_MAX_LINE = 2_000
_SNIFFED = 8_192
_SPARE_S = 30.0
_TERMINAL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]+[0-~]|[0-~])?"
)


class Workspace:
    """Files beneath `root`, and nothing else; every change can be taken back with `undo`.

    Args:
        root: The directory; its `.git` is out of reach for the file tools.
        sandbox: What runs commands; one of its own if left out.
        undo_log: A file outside of `root` that keeps the changes beyond this process.
        author: Whose name commits carry.
        trust: What the files' text is worth; a repository may hold anybody's words.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        sandbox: Sandbox | None = None,
        undo_log: Path | None = None,
        author: Author | None = None,
        trust: Literal["trusted", "untrusted"] = "untrusted",
    ) -> None:
        self.files = Confined(Path(root))
        self.root = self.files.root
        if undo_log is not None and undo_log.resolve().is_relative_to(self.root):
            raise ConfigError(
                f"the undo log {str(undo_log)!r} lies in the workspace", hint="keep it elsewhere"
            )
        self.sandbox = sandbox or Sandbox(self.root, limits=Limits())
        if self.sandbox.root != self.root:
            raise ConfigError(
                f"the sandbox is for {str(self.sandbox.root)!r}", hint="give both the same root"
            )
        self.git = Git.of(self.root, author)
        self.log = UndoLog(undo_log)
        self.trust = trust
        self.handles = Handles()

    def close(self) -> None:
        """Let go of the root."""
        self.files.close()

    def list_files(self, path: str = ".", depth: int = 2) -> str:
        """List files and folders beneath a folder, with sizes in bytes.

        Args:
            path: The folder, relative to the workspace.
            depth: How many levels of folders to show.
        """
        rows: list[str] = []
        for item in self.files.walk(path, depth=max(1, min(depth, 20))):
            if len(rows) == _MAX_LISTED:
                rows.append(f"[more than {_MAX_LISTED} entries; list a folder or search]")
                break
            end = {"dir": "/", "link": " (a link)", "other": " (no file)"}.get(item.kind, "")
            rows.append(f"{item.path}{end}" + (f" {item.size}" if item.kind == "file" else ""))
        return "\n".join(rows) or "(empty)"

    def read_file(self, path: str, start: int = 1, end: int | None = None) -> str:
        """Read a text file, or lines of it, each with its number.

        Args:
            path: The file, relative to the workspace.
            start: The first line.
            end: The last line; 400 lines are shown if it is left out.
        """
        data = self.files.read(path).data
        if b"\0" in data[:_SNIFFED]:
            return f"{path} is binary, {len(data):,} bytes"
        lines = data.decode("utf-8", "replace").split("\n")
        if lines[-1] == "":
            lines.pop()
        first = max(start, 1)
        last = min(len(lines), end if end is not None else first + _MAX_LINES - 1)
        if first > max(len(lines), 1) or last < first - 1:
            raise InputError(
                f"{path!r} has no lines {first} to {last}", hint=f"it has {len(lines)}"
            )
        rows = [f"{at:>6}\t{_short(lines[at - 1])}" for at in range(first, last + 1)]
        if last < len(lines):
            rows.append(f"[lines {last + 1} to {len(lines)} not shown]")
        return "\n".join(rows) or "(empty)"

    def search_files(self, pattern: str, path: str = ".", glob: str = "") -> str:
        """Search files for a regular expression and return path:line: text.

        Args:
            pattern: The regular expression, matched within single lines.
            path: The folder or file to search.
            glob: Only files whose name matches, like *.py.
        """
        hits = search(self.files, pattern, path, glob)
        return "\n".join(f"{hit.path}:{hit.line}: {hit.text}" for hit in hits) or "(no match)"

    def write_file(self, path: str, text: str) -> str:
        """Write a whole file, making its folders; what it held before is replaced.

        Args:
            path: The file, relative to the workspace.
            text: All that it shall hold.
        """
        self._put(path, _encoded(text), self.log.next_step())
        return f"wrote {path}, {len(text.splitlines())} lines"

    def edit_file(self, path: str, old: str, new: str, everywhere: bool = False) -> str:
        """Replace text in a file; the old text must occur exactly once, to the letter.

        Args:
            path: The file, relative to the workspace.
            old: The text to replace, without line numbers, with enough around it to be unique.
            new: The text to put in its place.
            everywhere: Replace every occurrence instead.
        """
        text = self._text(path)
        if not old:
            raise InputError("the old text is empty", hint="use write_file for a new file")
        if "\r\n" in text and "\r" not in old:
            old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
        places = text.count(old)
        if not places:
            raise InputError(
                f"{path!r} does not hold that text", hint="read it again and copy it to the letter"
            )
        if places > 1 and not everywhere:
            raise InputError(
                f"{path!r} holds that text {places} times",
                hint="give more of what surrounds it, or set everywhere",
            )
        if old == new:
            raise InputError("old and new text are equal", hint="say what shall change")
        line = text[: text.index(old)].count("\n") + 1
        self._put(path, _encoded(text.replace(old, new)), self.log.next_step())
        return f"replaced {places} place{'s' * (places > 1)} in {path}, from line {line}"

    def apply_patch(self, patch: str) -> str:
        """Apply a unified diff to any number of files; all of it fits, or nothing is changed.

        Args:
            patch: The diff, with --- and +++ lines and @@ hunks; /dev/null for no file.
        """
        results = applied(patch, lambda path: self._text(path) if self.files.look(path) else None)
        encoded = {path: text if text is None else _encoded(text) for path, text in results.items()}
        step = self.log.next_step()
        try:
            for path, data in encoded.items():
                self._put(path, data, step)
        except InputError:
            if self.log.changes and self.log.changes[-1].step == step:
                self.undo()
            raise
        return "\n".join(
            f"{'patched' if results[path] is not None else 'removed'} {path}" for path in results
        )

    def move_file(self, source: str, target: str) -> str:
        """Move or rename a file or folder; nothing is replaced.

        Args:
            source: What to move, relative to the workspace.
            target: Where it shall be.
        """
        with self._noted(Change("move", source, target, step=self.log.next_step())):
            self.files.move(source, target)
        return f"moved {source} to {target}"

    def delete_file(self, path: str) -> str:
        """Delete a file.

        Args:
            path: The file, relative to the workspace.
        """
        self._put(path, None, self.log.next_step())
        return f"deleted {path}"

    def git_status(self) -> str:
        """Show the branch and the files that differ from the last commit."""
        return self._git().status()

    def git_diff(self, path: str = "") -> str:
        """Show what differs from the last commit, as a unified diff.

        Args:
            path: Only this file or folder.
        """
        git = self._git()
        if path:
            self.files.look(path)
        return git.diff(git.head() or git.empty(), path or None) or "(no difference)"

    def git_commit(self, message: str) -> str:
        """Commit every change.

        Args:
            message: Why the change is made, in a sentence.
        """
        git = self._git()
        before = git.head()
        commit = git.commit(message)
        self.log.add(Change("commit", before, after=commit, step=self.log.next_step()))
        return f"committed {commit[:12]}"

    def run_command(self, command: str, timeout_s: float | None = None) -> str:
        """Run a shell command in the workspace and return its output and exit status.

        It has no network and sees no files but the workspace and the system's. Nothing that it
        starts outlives it.

        Args:
            command: The command, as for sh -c.
            timeout_s: Seconds after which it is ended.
        """
        return self.handles.short(_told(self.run(command, timeout_s)))

    def read_result(self, handle: str, start: int, end: int) -> str:
        """Read lines of a long result that was shown in part.

        Args:
            handle: The result's name, such as r1.
            start: The first line.
            end: The last line.
        """
        return self.handles.read(handle, start, end)

    def run(self, command: str, timeout_s: float | None = None) -> Run:
        """Run a command so that its changes to files that git does not ignore can be undone."""
        had_git = (self.root / ".git").exists()
        before = self.git.snapshot() if self.git else ""
        try:
            return self.sandbox.run(command, timeout_s=timeout_s)
        finally:
            if not had_git:
                self._set_aside_git()
            if self.git and (after := self.git.snapshot()) != before:
                self.log.add(Change("run", before, after=after, step=self.log.next_step()))

    def undo(self) -> str:
        """Take the latest step back and say what that was; what others changed is kept."""
        if not self.log.changes:
            raise InputError("there is nothing to undo", hint="every change is undone already")
        step, told = self.log.changes[-1].step, []
        while self.log.changes and self.log.changes[-1].step == step:
            told.append(self._take_back(self.log.changes[-1]))
            self.log.drop()
        return "\n".join(told)

    def undo_all(self) -> str:
        """Take every step back, the latest first."""
        told = []
        while self.log.changes:
            told.append(self.undo())
        return "\n".join(told)

    def tools(self) -> list[BaseTool]:
        """Return the tools, declared; those of git only where there is a repository."""
        trust = self.trust
        confined = self.sandbox.confinement.kind == "bubblewrap"
        approval: Approval = "never" if confined else "always"
        made: list[BaseTool] = [
            tool(idempotent=True, trust=trust)(method)
            for method in (self.list_files, self.read_file, self.read_result, self.search_files)
        ]
        made += [
            tool(side_effect="local")(method)
            for method in (self.edit_file, self.apply_patch, self.move_file, self.delete_file)
        ]
        made.append(tool(side_effect="local", idempotent=True)(self.write_file))
        wall_s = self.sandbox.limits.wall_s + _SPARE_S
        running: Any = tool(side_effect="local", approval=approval, timeout_s=wall_s, trust=trust)
        made.append(running(self.run_command))
        if self.git:
            made += [tool(idempotent=True, trust=trust)(self.git_diff)]
            made += [tool(idempotent=True, trust=trust)(self.git_status)]
            made += [tool(side_effect="local")(self.git_commit)]
        return sorted(made, key=lambda item: item.name)

    def _git(self) -> Git:
        if self.git is None:
            raise InputError("the workspace is no git repository", hint="go on without git")
        return self.git

    def _text(self, path: str) -> str:
        data = self.files.read(path).data
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path!r} is no UTF-8 text", hint="change it by a command") from error
        if "\0" in text:
            raise InputError(f"{path!r} is binary", hint="change it by a command")
        return text

    def _put(self, path: str, data: bytes | None, step: int) -> None:
        """Write or remove a file, noting first what was there."""
        before = self.files.read(path) if self.files.look(path) else None
        if data is None and before is None:
            raise InputError(f"{path!r} does not exist", hint="list the folder to see what does")
        change = Change("file", path, before=before, after=fingerprint(data), step=step)
        with self._noted(change):
            if data is None:
                self.files.remove(path)
            else:
                self.files.write(path, data)

    @contextmanager
    def _noted(self, change: Change) -> Iterator[None]:
        """Write the change down before it is made, and strike it out if it was not."""
        self.log.add(change)
        try:
            yield
        except InputError:
            self.log.drop()
            raise

    def _take_back(self, change: Change) -> str:
        if change.kind == "commit":
            self._git().uncommit(change.after, change.path)
            return f"took the commit {change.after[:12]} back"
        if change.kind == "run":
            return self._take_run_back(self._git(), change)
        return take_back(self.files, change)

    def _take_run_back(self, git: Git, change: Change) -> str:
        paths = git.changed(change.path, change.after)
        since = set(git.changed(change.after, git.snapshot())) & set(paths)
        if since:
            raise InputError(
                f"{min(since)!r} was changed by somebody else since", hint="compare it by hand"
            )
        for path in paths:
            before = git.blob(change.path, path)
            if self.files.look(path):
                self.files.remove(path)
            if before is not None:
                self.files.write(path, *before)
        return "took back what a command changed: " + ", ".join(paths)

    def _set_aside_git(self) -> None:
        """Rename a repository that a command made: git anywhere above would run its programs."""
        with suppress(FileNotFoundError):
            (self.root / ".git").rename(self.root / f"git-set-aside-{secrets.token_hex(4)}")


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError("the text holds what is no Unicode", hint="leave it out") from error


def _short(line: str) -> str:
    line = line.removesuffix("\r")
    if len(line) <= _MAX_LINE:
        return line
    return f"{line[:_MAX_LINE]} [{len(line) - _MAX_LINE:,} more characters]"


def plain(text: str) -> str:
    """Return `text` without a terminal's codes: colours are waste, and can hide words."""
    return _TERMINAL.sub("", text)


def _told(run: Run) -> str:
    """Return a command's output and end as a model reads it."""
    end = f"[ended: {run.ended}]" if run.ended else f"[exit status {run.status}]"
    output = plain(run.text).rstrip("\n")
    return f"{output}\n{end}" if output else end
