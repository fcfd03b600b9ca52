"""Sums over the ledger: right whoever writes or erases, and read from the new rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Connection, insert, text

from agentmesh import spending
from agentmesh.economy.prices import PriceBook
from agentmesh.economy.usage import Usage
from agentmesh.memory import Memory
from agentmesh.memory.ledger import Call, store
from agentmesh.memory.tables import calls
from agentmesh.spending import DAY_S, Spending, Sum

MODEL = "anthropic:claude-opus-5-5"
DAY = 20_000 * DAY_S
CALL = Call(
    user="u1",
    agent="desk",
    epoch=1,
    turn=1,
    step=1,
    tier="only",
    model=MODEL,
    head=1,
    usage=Usage(10, 0, 0, 0, 5, 0),
    cost=100,
    outcome="ok",
    started_at=DAY + 60,
    latency_s=1.0,
    planned={"fresh": 1_000},
)


@pytest.fixture
def memory(url: str) -> Iterator[Memory]:
    made = Memory(url)
    yield made
    made.close()


@pytest.fixture
def counted(memory: Memory) -> Spending:
    """Sums that have been asked for while the ledger was empty."""
    made = Spending(memory, "desk", PriceBook())
    assert sums(memory, made) == (0, 0)
    return made


def session(memory: Memory, name: str, user: str = "u1") -> int:
    """Make a session; return its number."""
    blocks = [{"type": "text", "text": "hello"}]
    turn = memory.open_turn(session=name, user=user, agent="desk", blocks=blocks)
    turn.finish()
    return turn.view.id


def add(memory: Memory, number: int, *rows: Call) -> None:
    memory.database.write(lambda c: store(c, memory.tenant, number, list(rows)))


def sums(memory: Memory, kept: Spending, user: str = "u1", start: float = DAY) -> tuple[int, int]:
    def read(connection: Connection) -> tuple[int, int]:
        kept.advance(connection)
        return kept.spent(connection, Sum("user", user)), kept.spent(connection, Sum("day", start))

    return memory.database.read(read)


def test_new_rows_join_the_sums_that_they_belong_to(memory: Memory, counted: Spending) -> None:
    one, two = session(memory, "s1"), session(memory, "s2", "u2")
    add(memory, one, CALL, replace(CALL, cost=7, started_at=DAY - 1))
    add(memory, two, replace(CALL, user="u2", cost=30), replace(CALL, user="u2", agent="other"))
    assert sums(memory, counted) == (107, 130)
    assert sums(memory, counted, "u2") == (30, 130)
    assert sums(memory, Spending(memory, "desk", PriceBook())) == (107, 130)
    assert sums(memory, Spending(memory, "other", PriceBook()), "u2") == (100, 100)


def test_other_tenants_do_not_count(memory: Memory, counted: Spending, url: str) -> None:
    other = Memory(url, tenant="another")
    add(memory, session(memory, "s1"), CALL)
    add(other, session(other, "s1"), CALL, CALL)
    assert sums(memory, counted) == (100, 100)
    assert sums(memory, Spending(memory, "desk", PriceBook())) == (100, 100)
    assert sums(other, Spending(other, "desk", PriceBook())) == (200, 200)
    other.close()


def test_a_call_of_unknown_cost_counts_as_expected(memory: Memory, counted: Spending) -> None:
    expected = PriceBook().cost(MODEL, Usage(1_000, 0, 0, 0, 0, 0))
    assert expected
    add(memory, session(memory, "s1"), replace(CALL, cost=None))
    assert sums(memory, counted) == (expected, expected)
    assert sums(memory, Spending(memory, "desk", PriceBook())) == (expected, expected)


def test_a_new_day_begins_at_nothing_and_an_earlier_one_can_be_asked_again(
    memory: Memory, counted: Spending
) -> None:
    number = session(memory, "s1")
    add(memory, number, CALL)
    assert sums(memory, counted, start=DAY + DAY_S) == (100, 0)
    add(memory, number, replace(CALL, started_at=DAY + 86_500))
    assert sums(memory, counted, start=DAY + DAY_S) == (200, 100)
    assert sums(memory, counted) == (200, 100)  # the clock went back


def test_erased_rows_leave_and_their_numbers_can_be_taken_again(
    memory: Memory, counted: Spending
) -> None:
    add(memory, session(memory, "s1"), CALL, CALL)
    assert sums(memory, counted) == (200, 200)
    memory.erase(user="u1")
    two = session(memory, "s2", "u2")
    add(memory, two, *(replace(CALL, user="u2", started_at=DAY + 99 + n) for n in range(3)))
    assert sums(memory, counted, "u2") == (300, 300)
    assert sums(memory, counted) == (0, 300)


def test_rows_that_are_stored_late_on_postgresql_still_count(
    memory: Memory, counted: Spending, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = session(memory, "s1")
    add(memory, number, *[CALL] * 5)
    early = 3 if counted._lag else 5  # a number below the newest, drawn before they were
    if counted._lag:
        monkeypatch.setattr(counted, "_lag", 3)
        memory.database.write(lambda c: c.execute(calls.delete().where(calls.c.id == early)))
    before = sums(memory, counted)[0]
    if counted._lag:
        row = memory.database.read(lambda c: c.execute(calls.select().limit(1)).mappings().one())
        late = {**row, "id": early}
        memory.database.write(lambda c: c.execute(insert(calls).values(late)))
    add(memory, number, CALL)
    assert sums(memory, counted)[0] == before + (200 if counted._lag else 100)


def test_settled_rows_are_not_read_again(memory: Memory, counted: Spending) -> None:
    counted._lag = min(counted._lag, 5)
    number = session(memory, "s1")
    for _ in range(20):
        add(memory, number, CALL, CALL)
        sums(memory, counted)
    memory.database.write(
        lambda c: c.execute(text("UPDATE calls SET cost = 1000000 WHERE id <= 20"))
    )
    assert sums(memory, counted) == (4_000, 4_000)


def test_everything_is_counted_again_now_and_then(
    memory: Memory, counted: Spending, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = session(memory, "s1")
    add(memory, number, CALL, CALL)
    assert sums(memory, counted) == (200, 200)
    memory.database.write(lambda c: c.execute(calls.delete().where(calls.c.id == 1)))
    monkeypatch.setattr(spending, "RECOUNT_S", -1.0)
    assert sums(memory, counted) == (100, 100)


def test_keeps_a_bounded_number_of_sums(
    memory: Memory, counted: Spending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending, "MAX_SUMS", 2)
    for n in range(4):
        add(memory, session(memory, f"s{n}", f"v{n}"), replace(CALL, user=f"v{n}", cost=n))
        assert sums(memory, counted, f"v{n}")[0] == n
    assert len(counted._sums) <= 2
    assert [sums(memory, counted, f"v{n}")[0] for n in range(4)] == [0, 1, 2, 3]
