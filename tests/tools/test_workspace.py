from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh.errors import ConfigError, InputError
from agentmesh.tools import catalogue, declaration, run_call
from agentmesh.tools.git import Git
from agentmesh.tools.sandbox import Limits, Sandbox
from agentmesh.tools.workspace import Workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "space"
    (root / "src" / "deep").mkdir(parents=True)
    (root / "src" / "a.py").write_text("def one():\n    return 1\n\n\ndef two():\n    return 1\n")
    (root / "src" / "deep" / "b.txt").write_text("alpha\nbeta\n")
    for line in ("init -q -b main", "add .", "-c user.name=t -c user.email=t@t commit -qm first"):
        subprocess.run(["git", *line.split()], cwd=root, check=True, capture_output=True)
    return root


@pytest.fixture
def space(root: Path) -> Iterator[Workspace]:
    made = Workspace(root)
    yield made
    made.close()


def test_files_are_listed_with_sizes_and_without_git(space: Workspace) -> None:
    (space.root / "link").symlink_to("src")
    assert space.list_files().splitlines() == [
        "link (a link)",
        "src/",
        "src/a.py 50",
        "src/deep/",
    ]
    assert space.list_files("src/deep") == "src/deep/b.txt 11"


def test_a_long_listing_is_cut(space: Workspace) -> None:
    for number in range(600):
        (space.root / f"{number:04}.txt").touch()
    assert "more than 500" in space.list_files()


def test_lines_are_read_with_their_numbers(space: Workspace) -> None:
    assert space.read_file("src/a.py", 5, 6) == "     5\tdef two():\n     6\t    return 1"
    assert "[lines 2 to 6 not shown]" in space.read_file("src/a.py", 1, 1)
    with pytest.raises(InputError, match="no lines"):
        space.read_file("src/a.py", 50)


def test_binary_and_huge_files_are_told_apart(space: Workspace) -> None:
    (space.root / "data.bin").write_bytes(b"\x00\x01" * 100)
    assert space.read_file("data.bin") == "data.bin is binary, 200 bytes"
    with (space.root / "huge.log").open("wb") as huge:
        huge.truncate(10_000_000_000)
    with pytest.raises(InputError, match="too large"):
        space.read_file("huge.log")
    (space.root / "odd.txt").write_bytes(b"caf\xe9\n")
    assert "caf\ufffd" in space.read_file("odd.txt")
    with pytest.raises(InputError, match="UTF-8"):
        space.edit_file("odd.txt", "caf", "x")
    (space.root / "wide.txt").write_text("x" * 50_000)
    assert "48,000 more characters" in space.read_file("wide.txt")
    assert space.read_file("wide.txt", 1).count("\n") == 0
    (space.root / "empty").touch()
    assert space.read_file("empty") == "(empty)"


@pytest.mark.parametrize("ripgrep", [True, False])
def test_search_finds_the_same_with_and_without_ripgrep(
    space: Workspace, monkeypatch: pytest.MonkeyPatch, ripgrep: bool
) -> None:
    if not ripgrep:
        monkeypatch.setattr("agentmesh.tools.search.find", lambda name: None)
    assert space.search_files(r"return \d") == (
        "src/a.py:2:     return 1\nsrc/a.py:6:     return 1"
    )
    assert space.search_files("beta", "src/deep") == "src/deep/b.txt:2: beta"
    assert space.search_files("beta", "src/deep/b.txt") == "src/deep/b.txt:2: beta"
    assert space.search_files("a", glob="*.txt").count("\n") == 1
    assert space.search_files("nowhere") == "(no match)"
    for pattern in ("(", "", "a\nb"):
        with pytest.raises(InputError):
            space.search_files(pattern)


def test_a_pattern_that_takes_for_ever_is_ended(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentmesh.tools.search.find", lambda name: None)
    monkeypatch.setattr("agentmesh.tools.search.TIMEOUT_S", 0.5)
    (space.root / "a.txt").write_text("a" * 60 + "!\n")
    with pytest.raises(InputError, match="took more"):
        space.search_files("(a+)+$")


def test_an_edit_replaces_exactly_one_place(space: Workspace) -> None:
    assert space.edit_file("src/a.py", "two():\n    return 1", "two():\n    return 2") == (
        "replaced 1 place in src/a.py, from line 5"
    )
    assert (space.root / "src/a.py").read_text().endswith("return 2\n")
    for old, new, told in (
        ("return", "give", "2 times"),
        ("nothing", "x", "does not hold"),
        ("", "x", "empty"),
        ("one", "one", "equal"),
    ):
        with pytest.raises(InputError, match=told):
            space.edit_file("src/a.py", old, new)
    assert "replaced 2 places" in space.edit_file("src/a.py", "return", "yield", everywhere=True)


def test_line_endings_and_permissions_are_kept(space: Workspace) -> None:
    path = space.root / "run.bat"
    path.write_bytes(b"one\r\ntwo\r\n")
    path.chmod(0o755)
    space.edit_file("run.bat", "one\ntwo", "three\nfour")
    assert path.read_bytes() == b"three\r\nfour\r\n"
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_write_makes_folders_and_leaves_no_litter(space: Workspace) -> None:
    assert space.write_file("new/deep/c.txt", "one\ntwo\n") == "wrote new/deep/c.txt, 2 lines"
    assert (space.root / "new/deep/c.txt").read_text() == "one\ntwo\n"
    with pytest.raises(InputError):
        space.write_file("src", "text")
    with pytest.raises(InputError):
        space.write_file("src/a.py/x", "text")
    with pytest.raises(InputError):
        space.write_file("bad.txt", "\ud800")
    with pytest.raises(InputError):
        space.write_file("big.txt", "x" * 6_000_000)
    assert not [x for x in space.root.rglob("*") if ".agentmesh" in x.name]
    assert not (space.root / "bad.txt").exists()


def test_nothing_is_replaced_by_a_move(space: Workspace) -> None:
    assert space.move_file("src/a.py", "lib/a.py") == "moved src/a.py to lib/a.py"
    with pytest.raises(InputError, match="exists"):
        space.move_file("lib/a.py", "src/deep/b.txt")
    with pytest.raises(InputError, match="within"):
        space.move_file("src", "src/deep/inner")
    space.move_file("src/deep", "kept")
    assert (space.root / "kept" / "b.txt").exists()


PATCH = """diff --git a/src/a.py b/src/a.py
--- a/src/a.py
+++ b/src/a.py
@@ -1,2 +1,2 @@
 def one():
-    return 1
+    return 11
@@ -5,2 +5,3 @@
 def two():
+    "Two."
     return 1
--- /dev/null
+++ b/src/new.txt
@@ -0,0 +1,2 @@
+first
+second
--- a/src/deep/b.txt
+++ /dev/null
@@ -1,2 +0,0 @@
-alpha
-beta
"""


def test_a_patch_changes_adds_and_removes(space: Workspace) -> None:
    told = space.apply_patch(PATCH)
    assert told.splitlines() == [
        "patched src/a.py",
        "patched src/new.txt",
        "removed src/deep/b.txt",
    ]
    assert (space.root / "src/a.py").read_text() == (
        'def one():\n    return 11\n\n\ndef two():\n    "Two."\n    return 1\n'
    )
    assert (space.root / "src/new.txt").read_text() == "first\nsecond\n"
    assert not (space.root / "src/deep/b.txt").exists()
    space.undo()
    assert space.git is not None
    assert space.git_diff() == "(no difference)"


@pytest.mark.parametrize(
    "patch",
    [
        "no patch",
        "@@ -1 +1 @@\n-a\n+b\n",
        PATCH.replace("return 1\n+", "return 7\n+"),
        PATCH.replace("@@ -1,2 +1,2 @@", "@@ -1,9 +1,9 @@"),
        PATCH.replace("-beta\n", ""),
        PATCH + "--- a/none.txt\n+++ b/none.txt\n@@ -1 +1 @@\n-a\n+b\n",
        PATCH.replace("b/src/new.txt", "b/src/deep/b.txt"),
        PATCH + "--- /dev/null\n+++ b/../outside.txt\n@@ -0,0 +1 @@\n+x\n",
        PATCH + "--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n",
        PATCH + "--- /dev/null\n+++ b/src/a.py/x\n@@ -0,0 +1 @@\n+x\n",
        "rename from a\nrename to b\n",
        PATCH.replace("+++ b/src/a.py", "+++ b/src/other.py"),
    ],
)
def test_a_patch_that_does_not_fit_changes_nothing(space: Workspace, patch: str) -> None:
    with pytest.raises(InputError) as caught:
        space.apply_patch(patch)
    assert caught.value.hint
    assert space.git_diff() == "(no difference)"
    assert not space.log.changes


_LINES = st.lists(st.sampled_from(["a", "b", "c", "", " x", "-y", "+z"]), max_size=12)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(_LINES, _LINES, st.booleans(), st.booleans())
def test_a_patch_of_git_does_what_git_does(
    tmp_path: Path, old: list[str], new: list[str], old_end: bool, new_end: bool
) -> None:
    from agentmesh.tools.patch import applied

    texts = []
    for lines, end, name in ((old, old_end, "old"), (new, new_end, "new")):
        text = "\n".join(lines) + ("\n" if end and lines else "")
        (tmp_path / name).write_text(text)
        texts.append(text)
    diff = subprocess.run(
        ["git", "diff", "--no-index", "--no-color", "old", "new"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.replace("+++ b/new", "+++ b/old")
    if "@@" not in diff:
        return
    assert applied(diff, lambda path: texts[0])["old"] == texts[1]


def test_git_shows_and_commits(space: Workspace) -> None:
    space.write_file("src/a.py", "print(1)\n")
    space.write_file("src/new.txt", "new\n")
    assert "## main" in space.git_status()
    assert "src/new.txt" in space.git_status()
    diff = space.git_diff()
    assert "+print(1)" in diff
    assert "+new" in diff
    assert "new" not in space.git_diff("src/a.py")
    assert space.git_commit("Print one").startswith("committed ")
    assert space.git_diff() == "(no difference)"
    with pytest.raises(InputError):
        space.git_commit("nothing left")
    with pytest.raises(InputError):
        space.git_commit("  ")


def test_git_works_before_the_first_commit(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    space = Workspace(tmp_path)
    space.write_file("a.txt", "one\n")
    assert "+one" in space.git_diff()
    space.git_commit("first")
    with pytest.raises(InputError, match="first commit"):
        space.undo()


def test_a_folder_without_git_has_no_git_tools(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    assert not [item for item in space.tools() if item.name.startswith("git")]
    with pytest.raises(InputError, match="no git repository"):
        space.git_status()


def test_a_folder_within_a_repository_is_not_that_repository(root: Path) -> None:
    assert Git.of(root / "src") is None
    assert Git.of(root) is not None


def test_every_change_can_be_taken_back(space: Workspace) -> None:
    assert space.git is not None
    before = (space.git.head(), space.git.snapshot())
    space.write_file("x/new.txt", "new")
    space.edit_file("src/a.py", "one", "three")
    space.move_file("src/a.py", "src/c.py")
    space.delete_file("src/deep/b.txt")
    space.git_commit("all of it")
    space.run_command("echo more >> src/c.py; rm x/new.txt; mkdir y; echo z > y/z")
    assert (space.git.head(), space.git.snapshot()) != before
    told = space.undo_all()
    assert "took back what a command changed" in told
    assert (space.git.head(), space.git.snapshot()) == before
    assert space.git_diff() == "(no difference)"
    with pytest.raises(InputError, match="nothing to undo"):
        space.undo()


_CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["write", "delete", "move"]),
        st.sampled_from(["a", "b", "d/c"]),
        st.sampled_from(["a", "b", "d/c"]),
    ),
    max_size=12,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(_CHANGES)
def test_any_run_of_changes_can_be_taken_back(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, str, str]]
) -> None:
    root = tmp_path_factory.mktemp("space")
    (root / "a").write_text("first")
    log = root.parent / f"{root.name}.undo"
    space = Workspace(root, undo_log=log)
    for number, (kind, path, other) in enumerate(changes):
        try:
            if kind == "write":
                space.write_file(path, f"text {number}")
            elif kind == "delete":
                space.delete_file(path)
            else:
                space.move_file(path, other)
        except InputError:
            continue
    space.close()
    again = Workspace(root, undo_log=log)  # another process would find the same
    again.undo_all()
    again.close()
    assert {x.name: x.read_text() for x in root.rglob("*") if x.is_file()} == {"a": "first"}


def test_what_somebody_else_changed_is_not_undone(space: Workspace) -> None:
    space.write_file("src/a.py", "mine\n")
    (space.root / "src/a.py").write_text("theirs\n")
    with pytest.raises(InputError, match="somebody else"):
        space.undo()
    assert (space.root / "src/a.py").read_text() == "theirs\n"
    space.run_command("echo command > src/a.py")
    (space.root / "src/a.py").write_text("theirs again\n")
    with pytest.raises(InputError, match="somebody else"):
        space.undo()


def test_an_undo_log_is_kept_outside_and_read_whole(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in the workspace"):
        Workspace(root, undo_log=root / "undo.jsonl")
    log = tmp_path / "undo.jsonl"
    log.write_text("{broken\n")
    with pytest.raises(ConfigError, match="no undo log"):
        Workspace(root, undo_log=log)


def test_a_workspace_needs_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wrong in ("none", "file"):
        with pytest.raises(ConfigError):
            Workspace(tmp_path / wrong)
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="sandbox"):
        Workspace(tmp_path, sandbox=Sandbox(tmp_path / "other"))


def test_the_tools_are_a_catalogue_that_a_model_can_use(space: Workspace) -> None:
    tools = catalogue(space.tools())
    assert [item.name for item in tools] == [
        *("apply_patch", "delete_file", "edit_file", "git_commit", "git_diff", "git_status"),
        *("list_files", "move_file", "read_file", "read_result", "run_command", "search_files"),
        "write_file",
    ]
    for item in tools.specs:
        assert '"self"' not in item.parameters
    for name, schema in tools.schemas.items():
        for argument, described in schema["properties"].items():
            assert described["description"], (name, argument)
    read = tools.by_name["read_file"]
    assert declaration(read).trust == "untrusted"
    result = run_call(read, "c", {"path": "src/deep/b.txt"})
    assert "     1\talpha" in result.text
    assert result.text.startswith("<untrusted")
    refused = run_call(read, "c", {"path": "../x"})
    assert refused.text == (
        "Error: '../x' leads upwards; give a path relative to the workspace, without .."
    )
    ran = run_call(tools.by_name["run_command"], "c", {"command": "echo hi; exit 3"})
    assert "hi\n[exit status 3]" in ran.text


def test_a_terminals_colours_and_titles_are_left_out(space: Workspace) -> None:
    told = space.run_command(r"printf '\033[1;31mred\033[0m \033]0;title\007\033(Bplain'")
    assert told == "red plain\n[exit status 0]"


def test_a_long_output_goes_by_handle(space: Workspace) -> None:
    shown = space.run_command("seq 1 5000")
    assert len(shown) < 5_000
    assert shown.startswith("1\n2\n")
    assert shown.endswith("5000\n[exit status 0]")
    assert "result r1, 5001 lines" in shown
    assert space.read_result("r1", 2500, 2502) == "2500\n2501\n2502"
    for handle, start, end in (("r9", 1, 2), ("r1", 9000, 9001), ("r1", 5, 2)):
        with pytest.raises(InputError):
            space.read_result(handle, start, end)


def test_a_command_that_is_ended_says_why(root: Path) -> None:
    space = Workspace(root, sandbox=Sandbox(root, limits=Limits(wall_s=1)))
    assert "[ended: it ran for more than 1 s]" in space.run_command("echo begun; sleep 30")
    for command in ("", "  ", "a\0b"):
        with pytest.raises(InputError):
            space.run_command(command)
    with pytest.raises(ConfigError):
        Limits(wall_s=0)


def test_a_work_tree_of_its_own_leaves_the_repository_alone(root: Path, tmp_path: Path) -> None:
    main = Git.of(root)
    assert main is not None
    tree = main.worktree(tmp_path / "tree")
    space = Workspace(tree.root)
    space.edit_file("src/a.py", "one", "uno")
    space.run_command("echo 2 > two.txt")
    assert space.git is not None
    patch = space.git.patch()
    assert main.snapshot() == main.text("rev-parse", "HEAD^{tree}").strip()
    main.apply(patch)
    assert (root / "two.txt").read_text() == "2\n"
    assert "uno" in (root / "src/a.py").read_text()
    main.forget(tree.root)
    assert not tree.root.exists()
    assert os.path.isdir(root / ".git")
