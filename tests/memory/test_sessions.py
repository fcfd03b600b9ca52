from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from sqlalchemy import text, update

from agentmesh.errors import BusyError, ConflictError, CorruptError, InputError
from agentmesh.memory import Memory
from agentmesh.memory.conformance import CORE, answer, at_once, begin, call, say
from agentmesh.memory.sessions import alive, owner
from agentmesh.memory.tables import calls, entries, epochs, layers, sessions
from agentmesh.memory.turns import CUT_SHORT

_HALF_A_TURN = """
import sys, time
from agentmesh.memory import Memory
from agentmesh.memory.conformance import begin, call
turn = begin(Memory(sys.argv[1]), "refund my order")
call(turn)
turn.add("assistant", [{"type": "call", "id": "c1", "name": "refund", "arguments": "{}"},
                       {"type": "call", "id": "c2", "name": "lookup", "arguments": "{}"}])
turn.add("tool", [{"type": "result", "id": "c2", "name": "lookup", "text": "x", "error": False}])
turn.flush()
turn.add("assistant", [{"type": "text", "text": "never flushed"}])
print("half", flush=True)
time.sleep(60)
"""


def _killed_in_mid_turn(url: str, environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _HALF_A_TURN, url],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_turn_cut_short_by_a_kill_is_closed_by_the_next(
    url: str, environment: dict[str, str]
) -> None:
    _killed_in_mid_turn(url, environment)
    memory = Memory(url)
    began = time.monotonic()
    turn = begin(memory, "hello?")  # the lease of a dead process is free at once
    assert time.monotonic() - began < 5
    kinds = [(e.kind, [b.get("id") for b in e.blocks]) for e in call(turn).entries]
    assert kinds == [
        ("user", [None]),
        ("assistant", ["c1", "c2"]),
        ("tool", ["c2"]),
        ("tool", ["c1"]),
        ("user", [None]),
    ]
    assert turn.view.shown[3].blocks[0] | {"text": ""} == {
        "type": "result",
        "id": "c1",
        "name": "refund",
        "text": "",
        "error": True,
    }
    assert turn.view.shown[3].blocks[0]["text"] == CUT_SHORT
    answer(turn)
    ends = [record.body for record in memory.history("s1").records() if record.kind == "end"]
    assert ["interrupted" in body for body in ends] == [True, False]
    assert memory.verify().calls == 2
    memory.close()


def test_a_turn_cut_short_can_be_taken_up_again(url: str, environment: dict[str, str]) -> None:
    _killed_in_mid_turn(url, environment)
    memory = Memory(url)
    turn = memory.reopen_turn(session="s1", user="u1")
    assert turn is not None
    assert [record.kind for record in turn.records] == ["user", "assistant", "tool"]
    turn.recall(CORE)
    answer(turn)
    assert memory.reopen_turn(session="s1", user="u1") is None
    assert begin(memory).number == 2
    memory.close()


def test_a_late_write_of_the_old_holder_is_refused(url: str) -> None:
    """A holder that was believed dead, its lease being over, cannot harm who came after."""
    now = [1_000.0]
    memory = Memory(url, clock=lambda: now[0])
    zombie = begin(memory, "first")
    now[0] += 121
    turn = begin(memory, "second")
    zombie.add("assistant", [{"type": "text", "text": "from the grave"}])
    with pytest.raises(ConflictError):
        zombie.flush()
    assert memory.live("s1", turn.fence) is turn  # the zombie's error did not touch it
    answer(turn)
    said = [b["text"] for e in memory.history("s1").entries() for b in e.blocks]
    assert said == ["first", "second", "hello"]
    assert memory.verify().entries == 5
    memory.close()


def test_no_turn_is_lost_among_processes(url: str, environment: dict[str, str]) -> None:
    script = (
        "import sys\n"
        "from agentmesh.memory import Memory\n"
        "from agentmesh.memory.conformance import say\n"
        "memory = Memory(sys.argv[1])\n"
        "for i in range(10): say(memory, f'{sys.argv[2]} {i}')\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, url, str(n)], env=environment)
        for n in range(3)
    ]
    assert [process.wait(100) for process in processes] == [0, 0, 0]
    memory = Memory(url)
    said = [e.blocks[0]["text"] for e in memory.history("s1").entries() if e.kind == "user"]
    assert sorted(said) == sorted(f"{n} {i}" for n in range(3) for i in range(10))
    assert memory.verify().calls == 30
    memory.close()


def test_threads_take_a_session_in_order_of_arrival(memory: Memory) -> None:
    turn = begin(memory)
    threads = []
    for n in range(5):
        threads.append(threading.Thread(target=say, args=(memory, f"{n}")))
        threads[-1].start()
        while len(memory._turnstile._lines.get("s1", ())) <= n:
            time.sleep(0.001)
    answer(turn)
    for thread in threads:
        thread.join(30)
    said = [e.blocks[0]["text"] for e in memory.history("s1").entries() if e.kind == "user"]
    assert said == ["hi", *"01234"]


def test_one_that_gives_up_waiting_leaves_the_line(memory: Memory) -> None:
    turn = begin(memory)
    with pytest.raises(BusyError, match="answering another message") as caught:
        memory.open_turn(session="s1", user="u1", agent="a", blocks=[], wait_s=0.1)
    assert "0.1 s" in caught.value.hint
    answer(turn)
    assert memory._turnstile._lines == {}
    assert begin(memory).number == 2


def test_two_memories_make_one_session_at_once(url: str) -> None:
    memories = [Memory(url) for _ in range(4)]
    at_once(*(lambda m=m: say(m) for m in memories))
    assert memories[0].sessions() == ["s1"]
    assert memories[0].verify().calls == 4
    for memory in memories:
        memory.close()


def test_an_abandoned_turn_is_over(memory: Memory) -> None:
    turn = begin(memory)
    turn.abandon()
    turn.abandon()
    assert memory.live("s1", turn.fence) is None
    assert begin(memory).number == 2


def test_the_opening_is_said_once(memory: Memory) -> None:
    for _ in range(2):
        turn = memory.open_turn(
            session="s1",
            user="u1",
            agent="a",
            blocks=[{"type": "text", "text": "hi"}],
            opening="Welcome!",
        )
        turn.recall(CORE)
        answer(turn)
    texts = [e.blocks[0]["text"] for e in memory.history("s1").entries()]
    assert texts == ["Welcome!", "hi", "hello", "hi", "hello"]


def test_an_owner_is_known_by_more_than_its_number() -> None:
    assert alive(owner())
    host, pid, started = owner().rsplit(":", 2)
    assert not alive(f"{host}:{pid}:{int(started) - 1}")  # its number went to another process
    assert not alive(f"{host}:4194304:1")
    assert alive("elsewhere:1:1")
    assert alive("")


@pytest.mark.parametrize(
    ("table", "change"),
    [
        (entries, {"body": '{"blocks":[{"text":"other","type":"text"}]}'}),
        (entries, {"turn": 9}),
        (entries, {"chain": "0" * 64}),
        (entries, None),
        (sessions, {"chain": "0" * 64}),
        (sessions, {"head": 99}),
        (calls, {"tail": "other"}),
        (calls, {"head": 1}),
        (calls, {"prompt_sha": "0" * 64}),
        (layers, {"body": "other"}),
        (layers, None),
        (epochs, {"frozen": '[["task","other"]]'}),
        (epochs, {"base": 1}),
        (epochs, None),
    ],
)
def test_verify_finds_what_was_changed(memory: Memory, table: Any, change: Any) -> None:
    say(memory, "one")
    say(memory, "two")
    assert memory.verify().entries == 6
    where = table.c.seq == 2 if table is entries else text("1=1")
    statement = table.delete() if change is None else update(table).values(**change)
    memory.database.write(lambda c: c.execute(statement.where(where)))
    with pytest.raises(CorruptError) as caught:
        memory.verify()
    assert "restore" in caught.value.hint


def test_verify_finds_an_entry_cut_from_the_end(memory: Memory) -> None:
    say(memory)
    memory.database.write(lambda c: c.execute(entries.delete().where(entries.c.seq == 3)))
    with pytest.raises(CorruptError, match="ends at entry 2"):
        memory.history("s1").verify()


@pytest.mark.parametrize("name", ["", "x" * 300, "a\nb", "a\x00", None, 7, "\ud800"])
def test_a_bad_name_is_refused(memory: Memory, name: Any) -> None:
    for use in (
        lambda: begin(memory, session=name),
        lambda: begin(memory, user=name),
        lambda: memory.profile(name),
        lambda: memory.history(name),
        lambda: Memory("sqlite://", tenant=name),
        lambda: memory.erase(user=name) if name is not None else memory.erase(),
    ):
        with pytest.raises(InputError):
            use()
    assert memory.sessions() == []


def test_an_unknown_session_says_so(memory: Memory) -> None:
    for use in (
        lambda: memory.history("nope").records(),
        lambda: len(memory.history("nope")),
        lambda: memory.verify("nope"),
        lambda: memory.reopen_turn(session="nope", user="u1"),
    ):
        with pytest.raises(InputError, match="no session 'nope'"):
            use()


def test_tenants_never_mix(url: str) -> None:
    acme, other = Memory(url, tenant="acme"), Memory(url, tenant="other")
    acme.profile("u1").set("secret", "of acme")
    acme.org("o").set("secret", "of acme")
    say(acme, "acme's words")
    assert other.sessions() == []
    assert other.profile("u1").items() == other.org("o").items() == []
    assert other.ledger.calls() == []
    with pytest.raises(InputError):
        other.history("s1").records()
    other.organisation_of = lambda user: "o"
    say(other, "other's words")  # the same names, another tenant's
    assert other.history("s1").entries()[0].blocks[0]["text"] == "other's words"
    with pytest.raises(InputError, match="of tenant 'other'"):
        other.erase(tenant="acme")
    other.erase(tenant="other")
    assert acme.verify().entries == 3
    assert acme.profile("u1").get("secret") == "of acme"
    acme.close()
    other.close()


def test_a_failed_write_costs_the_turn_and_nothing_else(memory: Memory) -> None:
    say(memory, "one")
    turn = begin(memory, "two")
    turn.add("assistant", [{"type": "text", "text": "lost"}])
    turn._head += 1  # as if another process had written
    with pytest.raises(ConflictError):
        turn.flush()
    assert memory.live("s1", turn.fence) is None
    memory.database.write(lambda c: c.execute(update(sessions).values(state="idle")))
    say(memory, "three")
    said = [e.blocks[0]["text"] for e in memory.history("s1").entries()]
    assert said == ["one", "hello", "two", "three", "hello"]
    assert memory.verify().calls == 2
    assert os.getpid() == int(owner().rsplit(":", 2)[1])
