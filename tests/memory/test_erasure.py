from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select

from agentmesh import canonical
from agentmesh.errors import ErasedError, InputError
from agentmesh.memory import Memory
from agentmesh.memory.conformance import answer, begin, call, say
from agentmesh.memory.tables import feedback, metadata

SECRET = "Zanzibar-4711"


def _live(memory: Memory, user: str, sessions: int, turns: int, secret: str) -> None:
    """Fill every table with a user's secret, in long rows and in short ones."""
    choice = random.Random(user)
    memory.profile(user).set("secret", secret, source="user", author=user)
    for name in [f"{user}-{n}" for n in range(sessions)]:
        memory.task(name).set("secret", [secret] * 3)
        for t in range(turns):
            said = f"{secret} " * choice.choice([1, 10, 300])
            turn = begin(memory, said, session=name, user=user)
            memory.task(name).set("n", f"{secret} {t}")
            turn.refresh()
            call(turn, tail=secret)
            answer(turn, said)
        row = {"session_id": turn.view.id, "tenant": memory.tenant, "turn": 1, "label": "bad"}
        comment = insert(feedback).values(**row, comment=secret, at=0)
        memory.database.write(partial(_execute, comment))


def _execute(statement: Any, connection: Connection) -> None:
    connection.execute(statement)


def _count(connection: Connection) -> dict[str, int]:
    counts = {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
    }
    return {name: count for name, count in counts.items() if count}


def _copies(path: Path, secret: str) -> int:
    """Count the copies of a text in a database's file, its log and whatever else lies there."""
    return sum(file.read_bytes().count(secret.encode()) for file in path.parent.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db" / "memory.db"


@pytest.fixture
def stored(path: Path) -> Iterator[Memory]:
    path.parent.mkdir()
    memory = Memory(f"sqlite:///{path}")
    _live(memory, "u1", 3, 12, SECRET)
    _live(memory, "u2", 2, 12, "harmless")
    yield memory
    memory.close()


@pytest.mark.parametrize("what", [{"user": "u1"}, {"tenant": "default"}])
def test_not_one_byte_is_left(stored: Memory, path: Path, what: dict[str, str]) -> None:
    assert _copies(path, SECRET) > 1_000
    receipt = stored.erase(**what)
    assert receipt.scrubbed
    assert _copies(path, SECRET) == 0
    if "user" in what:
        assert _copies(path, "harmless") > 500
        assert stored.verify().calls == 24
        assert stored.sessions() == ["u2-0", "u2-1"]
    else:
        assert set(stored.database.read(_count)) == {"tombstones"}
        assert stored.sessions() == []


def test_not_one_byte_is_left_of_a_session(stored: Memory, path: Path) -> None:
    for session in ("u1-0", "u1-1", "u1-2"):
        stored.erase(session=session)
    stored.profile("u1").delete("secret")
    stored.clock = lambda: 9e9
    stored.retain(1)  # what the profile said before
    assert _copies(path, SECRET) == 0


def test_every_table_is_emptied(url: str) -> None:
    memory = Memory(url)
    _live(memory, "u1", 2, 2, SECRET)
    memory.org("acme").set("contact", "x", author="u1")
    receipt = memory.erase(user="u1")
    left = memory.org("acme").item("contact")
    assert left is not None
    assert left.author == ""
    memory.erase(tenant="default")

    assert set(memory.database.read(_count)) == {"tombstones"}
    assert dict(receipt.counts) == {
        "bucket_items": 7,
        "buckets": 3,
        "entries": 16,
        "epochs": 2,
        "calls": 4,
        "feedback": 2,
        "sessions": 2,
        "layers": 2,
    }
    memory.close()


def test_the_receipt_can_be_checked(memory: Memory) -> None:
    say(memory)
    memory.clock = lambda: 77.0
    receipt = memory.erase(session="s1")
    body = {key: value for key, value in asdict(receipt).items() if key != "sha"}
    assert receipt.sha == canonical.sha(canonical.dumps(body))
    assert (receipt.kind, receipt.at) == ("session", 77.0)
    assert receipt.subject == canonical.sha('["session","default","s1"]')
    assert "s1" not in json.dumps(asdict(receipt))


def test_a_turn_that_runs_meanwhile_cannot_bring_it_back(url: str) -> None:
    here, there = Memory(url), Memory(url)
    say(here)
    late = begin(there)
    here.erase(user="u1")
    late.add("assistant", [{"type": "text", "text": "late"}])
    with pytest.raises(ErasedError):
        late.flush()
    with pytest.raises(ErasedError):
        there.reopen_turn(session="s1", user="u1")
    # A new session may not get the number of the old one: a late write would go there.
    say(here, session="s2", user="u2")
    late.fence, late._head = 1, 0
    with pytest.raises(ErasedError):
        late.flush()
    assert here.verify().entries == 3
    here.close()
    there.close()


def test_a_user_can_be_readmitted(memory: Memory) -> None:
    say(memory)
    memory.erase(user="u1")
    with pytest.raises(ErasedError, match="user 'u1' was erased"):
        say(memory, session="new")
    assert memory.readmit(user="u1")
    assert not memory.readmit(user="u1")
    say(memory, session="new")
    with pytest.raises(ErasedError, match="session 's1' was erased"):
        say(memory, session="s1")
    assert memory.readmit(session="s1")
    say(memory, session="s1")
    assert memory.verify().sessions == 2


def test_a_tenant_stays_erased(memory: Memory) -> None:
    say(memory)
    memory.erase(tenant="default")
    for late in (lambda: say(memory, session="s9", user="u9"), lambda: memory.org("o").set("a", 1)):
        with pytest.raises(ErasedError, match="tenant"):
            late()


def test_layers_that_others_use_stay(memory: Memory) -> None:
    say(memory, session="s1", user="u1")
    say(memory, session="s2", user="u2")
    assert memory.erase(user="u1").counts["layers"] == 0
    assert memory.verify().calls == 1
    assert memory.erase(user="u2").counts["layers"] == 2


def test_retention_removes_what_nobody_used(memory: Memory) -> None:
    now = [0.0]
    memory.clock = lambda: now[0]
    say(memory, session="old", user="u1")
    memory.task("old").set("a", 1)
    memory.profile("u1").set("a", 1)
    running = begin(memory, session="running", user="u1")
    now[0] = 9 * 86_400.0
    memory.profile("u1").set("a", 2)
    say(memory, session="new", user="u1")
    now[0] += 86_400 * 1.5
    receipt = memory.retain(days=10)
    assert memory.sessions() == ["new"]  # the lease of the running one was long over
    assert receipt.counts["sessions"] == 2
    assert receipt.counts["bucket_items"] == 2
    assert [item.value for item in memory.profile("u1").history("a")] == [2]
    with pytest.raises(ErasedError):
        running.finish()
    say(memory, session="old", user="u1")  # who comes back begins anew
    assert len(memory.history("old")) == 3


def test_a_running_turn_is_not_retained_away(memory: Memory) -> None:
    turn = begin(memory)
    real = memory.clock
    memory.retain(days=1e-9)
    answer(turn)
    assert real is memory.clock
    assert len(memory.history("s1")) == 3


def test_an_export_holds_everything_of_one_user(memory: Memory) -> None:
    _live(memory, "u1", 2, 2, SECRET)
    _live(memory, "u2", 1, 1, "of someone else")
    exported = memory.export("u1")
    text = json.dumps(exported, ensure_ascii=False)
    assert "of someone else" not in text
    assert json.loads(text) == exported
    assert [item["value"] for item in exported["profile"]] == [SECRET]
    assert [session["name"] for session in exported["sessions"]] == ["u1-0", "u1-1"]
    first = exported["sessions"][0]
    assert [entry["seq"] for entry in first["entries"]] == list(range(1, len(first["entries"]) + 1))
    assert [one["tail"] for one in first["calls"]] == [SECRET] * 2
    assert len(first["epochs"]) == 1
    assert len(first["task"]) == 3
    assert {"tenant", "session_id", "fence", "owner"}.isdisjoint(first["entries"][0])
    assert memory.export("nobody")["sessions"] == []


@pytest.mark.parametrize("what", [{}, {"user": "a", "session": "b"}, {"tenant": "other"}])
def test_erasing_needs_one_name(memory: Memory, what: dict[str, str]) -> None:
    say(memory)
    with pytest.raises(InputError):
        memory.erase(**what)
    assert memory.sessions() == ["s1"]


@pytest.mark.parametrize("days", [0, -1, "30", None, float("nan")])
def test_bad_days_are_refused(memory: Memory, days: Any) -> None:
    say(memory)
    with pytest.raises(InputError, match="days"):
        memory.retain(days)
    assert memory.sessions() == ["s1"]
