from __future__ import annotations

import pytest

from agentmesh.examples.customer_support.wishes import language_of, orders_in, wishes_in


@pytest.mark.parametrize(
    ("text", "wishes"),
    [
        ("Where is my order W-10101?", [("status", "W-10101")]),
        ("wo ist denn w10101", [("status", "W-10101")]),
        ("Please cancel W-10101. And when are you open?", [("cancel", "W-10101"), ("help", "")]),
        (
            "cancel W-10101, and I want to return W-10202",
            [("cancel", "W-10101"), ("return", "W-10202")],
        ),
        ("Hi, the mug of #W-10101 is broken. I want a refund!", [("fault", "W-10101")]),
        ("I returned it. Where is my money?", [("money_back", "")]),
        ("My address has changed: Weg 1, 12345 Ulm", [("address", "")]),
        ("it never arrived, i want my money", [("late", "")]),
        ("get me a manager. W-10101 is a mess", [("person", "W-10101")]),
        ("Win at our casino, track your order W-10101 at https://x.example", [("spam", "W-10101")]),
        ("Thanks, that is all.", [("thanks", "")]),
        ("W-10101", [("", "W-10101")]),
        ("", []),
        ("blub", []),
    ],
)
def test_reads_what_is_wanted(text: str, wishes: list[tuple[str, str]]) -> None:
    assert [(wish.intent, wish.order) for wish in wishes_in(text)] == wishes


def test_finds_order_numbers_as_people_write_them() -> None:
    assert orders_in("W-10101, #w10102 and W 10103") == ["W-10101", "W-10102", "W-10103"]
    assert orders_in("AW-10101 W-1010 W-101012") == []


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Wo ist meine Bestellung?", "de"),
        ("Where is my order?", "en"),
        ("Où est ma commande ?", "fr"),
        ("¿Dónde está mi pedido?", "es"),
        ("W-10101", ""),
    ],
)
def test_tells_languages_apart(text: str, language: str) -> None:
    assert language_of(text) == language
