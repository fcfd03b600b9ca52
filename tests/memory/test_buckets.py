from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.errors import ConfigError, ConflictError, InputError
from agentmesh.memory import Memory


def test_an_item_says_who_and_when(memory: Memory) -> None:
    memory.clock = lambda: 5.0
    profile = memory.profile("u1")
    item = profile.set("language", "German", source="user", author="u1")
    assert (item.key, item.value, item.revision) == ("language", "German", 1)
    assert (item.source, item.author, item.trust, item.valid_from) == ("user", "u1", "user", 5.0)
    assert item.line() == 'language: "German" [said by the user]'
    assert profile.item("language") == item
    assert profile.item("other") is None
    assert profile.get("other", 1) == 1


def test_versions_are_kept(memory: Memory) -> None:
    task = memory.task("s1")
    for value in (1, [2], {"three": 3}):
        task.set("a", value)
    task.set("b", True)
    task.delete("a")
    task.delete("a")
    versions = task.history("a")
    assert [item.value for item in versions] == [1, [2], {"three": 3}, None]
    assert [item.superseded_by for item in versions] == [2, 3, 5, None]
    assert versions[-1].removed
    assert [item.key for item in task.items()] == ["b"]
    assert task.tokens() == task.items()[0].tokens > 0


def test_saying_the_same_again_is_no_edit(memory: Memory) -> None:
    task = memory.task("s1")
    first = task.set("a", {"x": 1})
    assert task.set("a", {"x": 1}) == first
    assert task.set("a", {"x": 1}, source="user").revision == 2  # someone else says so now
    with pytest.raises(ConflictError):
        task.set("a", {"x": 1}, expect=1)


def test_update_retries_until_it_is_first(memory: Memory) -> None:
    task, other = memory.task("s1"), memory.task("s1")
    tries = []

    def change(value: Any) -> int:
        if not tries:
            other.set("n", 10)
        tries.append(value)
        return (value or 0) + 1

    assert task.update("n", change).value == 11
    assert tries == [None, 10]


def test_no_edit_is_lost_among_processes(url: str, environment: dict[str, str]) -> None:
    script = (
        "import sys\n"
        "from agentmesh.memory import Memory\n"
        "bucket = Memory(sys.argv[1]).org('acme')\n"
        "for _ in range(25): bucket.update('n', lambda n: (n or 0) + 1)\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, url], env=environment) for _ in range(4)
    ]
    assert [process.wait(100) for process in processes] == [0] * 4
    memory = Memory(url)
    assert memory.org("acme").get("n") == 100
    memory.close()


def test_a_full_bucket_can_still_shrink(memory: Memory) -> None:
    memory = Memory("sqlite://", limits={"task": 100})
    task = memory.task("s1")
    task.set("a", "x" * 200)
    with pytest.raises(InputError, match=r"full: \d+ of 100 tokens"):
        task.set("b", "x" * 300)
    task.set("a", "x" * 300)
    task.delete("a")
    task.set("b", "x" * 300)
    assert task.tokens() <= 100
    with pytest.raises(InputError, match="full"):
        task.set("huge", "x" * 10_000_000)
    memory.close()


@given(st.text() | st.dictionaries(st.text(), st.text()))
@settings(max_examples=100, deadline=None)
def test_a_line_closes_no_delimiter_and_begins_no_line(value: Any) -> None:
    memory = Memory("sqlite://", limits={"task": 100_000})
    line = memory.task("s1").set("k", value, source="tool").line()
    assert len(line.splitlines()) == 1
    assert "<" not in line
    assert ">" not in line
    memory.close()


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "x" * 200, None, 7, ("a",), "<a>", ".a"])
def test_a_bad_key_is_refused(memory: Memory, key: Any) -> None:
    with pytest.raises(InputError, match="not a key"):
        memory.task("s1").set(key, 1)
    assert memory.task("s1").items() == []


@pytest.mark.parametrize(
    "value", [None, float("nan"), float("inf"), {1, 2}, object(), b"x", {("a",): 1}, {1: {2}}]
)
def test_a_bad_value_is_refused(memory: Memory, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        memory.task("s1").set("a", value)
    assert caught.value.hint
    assert memory.task("s1").items() == []


@pytest.mark.parametrize(
    "how", [{"source": "god"}, {"trust": "blind"}, {"expect": "1"}, {"author": 7}]
)
def test_bad_provenance_is_refused(memory: Memory, how: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        memory.task("s1").set("a", 1, **how)
    assert memory.task("s1").items() == []


@pytest.mark.parametrize("limits", [{"profil": 5}, {"task": 0}, {"task": "many"}])
def test_bad_limits_are_refused(limits: Any) -> None:
    with pytest.raises(ConfigError, match="limits cannot be"):
        Memory("sqlite://", limits=limits)


@pytest.mark.parametrize(
    ("url", "match"),
    [("nonsense", "not a database URL"), ("mysql://x/y", "not supported"), (7, "not a database")],
)
def test_a_bad_url_is_refused(url: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        Memory(url)
    assert "sqlite:///" in caught.value.hint
