from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from agentmesh.examples.customer_support.expect import Expect, Fact
from agentmesh.examples.customer_support.outcome import (
    Turn,
    actions_since,
    judge,
    last_action,
)
from agentmesh.examples.customer_support.shop import Shop, write
from agentmesh.examples.customer_support.tools import desk

GOOD = Turn("Order W-1 is cancelled.", ["order_status", "cancel_order"], ["cancel_order"])
EXPECT = Expect(
    "cancel",
    called=("cancel_order",),
    writes=("cancel_order",),
    facts=(Fact("select count(*) from customers where id = :id", {"id": "C-1001"}, 1),),
    says=(("cancelled", "storniert"), ("W-1",)),
    never=("refuse",),
)


@pytest.fixture
def engine(shop: Shop, tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(write(shop, tmp_path / "shop.db"))
    desk(str(made.url)).close()
    yield made
    made.dispose()


def test_solved_is_what_the_database_the_calls_and_the_reply_say(engine: Engine) -> None:
    assert judge(EXPECT, GOOD, engine).solved


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (replace(GOOD, reply="  "), "empty"),
        (replace(GOOD, reply="W-1 is done"), "names none of: cancelled"),
        (replace(GOOD, reply="W-1 cancelled, I refuse"), "must not say"),
        (replace(GOOD, called=["order_status"]), "cancel_order was not called"),
        (replace(GOOD, writes=[]), "did nothing instead of cancel_order"),
        (replace(GOOD, writes=["cancel_order", "cancel_order"]), "instead of cancel_order"),
        (replace(GOOD, writes=["cancel_order", "refund"]), "refund instead of"),
    ],
)
def test_a_turn_that_differs_is_not_solved_and_says_why(
    engine: Engine, turn: Turn, why: str
) -> None:
    outcome = judge(EXPECT, turn, engine)
    assert not outcome.solved
    assert why in outcome.why


def test_a_claim_without_the_row_is_not_solved(engine: Engine) -> None:
    fact = Fact("select count(*) from refunds where order_id = :o", {"o": "W-0"}, 1)
    outcome = judge(replace(EXPECT, facts=(fact,)), GOOD, engine)
    assert outcome.why.startswith("the database says 0, not 1")


def test_quiet_and_language_are_judged(engine: Engine) -> None:
    quiet = Expect("spam", quiet=True)
    assert judge(quiet, Turn("No, thank you."), engine).solved
    assert not judge(quiet, Turn("No.", ["search_help"]), engine).solved
    german = Expect("thanks", language="de")
    assert judge(german, Turn("Das ist nicht nötig."), engine).solved
    assert "German" in judge(german, Turn("You are welcome."), engine).why


def test_counts_the_actions_of_one_turn(engine: Engine) -> None:
    before = last_action(engine)
    row = "insert into desk_actions values (:key, :tool, 'C', 's', '{}', '{}', 'now')"
    with engine.begin() as db:
        db.execute(text(row), {"key": "a", "tool": "refund"})
    assert actions_since(engine, before) == ("refund",)
    assert actions_since(engine, last_action(engine)) == ()
