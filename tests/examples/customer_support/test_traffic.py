from __future__ import annotations

from collections import Counter

import pytest

from agentmesh.errors import InputError
from agentmesh.examples.customer_support.shop import Shop, generate
from agentmesh.examples.customer_support.traffic import Traffic, _stored, traffic


def test_is_as_many_requests_as_asked_and_spam_among_them(shop: Shop, asked: Traffic) -> None:
    assert len(asked.inquiries) >= 220
    assert 0.08 <= asked.spam / len(asked.inquiries) <= 0.10
    for count in (1, 7, 300):
        assert len(traffic(shop, requests=count).inquiries) == count


def test_more_than_sixty_requests_are_written_by_hand() -> None:
    texts = [turn["text"] for plan in _stored("handwritten") for turn in plan["turns"]]
    assert len(texts) == len(set(texts))
    assert len(texts) >= 60


def test_customers_come_in_sessions_and_come_back_on_later_days(asked: Traffic) -> None:
    turns = Counter(inquiry.session for inquiry in asked.inquiries)
    assert sum(count > 1 for count in turns.values()) >= 30
    days: dict[str, set[int]] = {}
    for inquiry in asked.inquiries:
        days.setdefault(inquiry.user, set()).add(int(inquiry.at // 86_400))
    back = {user for user, seen in days.items() if len(seen) > 1}
    assert len(back) >= 20
    assert back == set(asked.profiles)
    assert all(
        set(facts) == {"name", "language", "preference"} for facts in asked.profiles.values()
    )
    times = [inquiry.at for inquiry in asked.inquiries]
    assert times == sorted(times)


def test_many_kinds_of_wishes_and_outcomes_are_among_them(asked: Traffic) -> None:
    intents = {part for one in asked.inquiries for part in one.expect.intent.split("+")}
    assert len(intents) >= 30
    languages = Counter(one.expect.language for one in asked.inquiries)
    assert languages["de"] >= 10
    assert sum(bool(one.expect.writes) for one in asked.inquiries) >= 60
    assert sum(one.expect.quiet for one in asked.inquiries) >= 30


def test_no_order_is_changed_by_two_sessions(asked: Traffic) -> None:
    owner: dict[object, str] = {}
    for one in asked.inquiries:
        for fact in one.expect.facts:
            order = fact.values.get("order")
            if order and one.expect.writes:
                assert owner.setdefault(order, one.session) == one.session


def test_is_the_same_for_the_same_seed_alone(shop: Shop, asked: Traffic) -> None:
    assert traffic(shop) == asked
    assert traffic(generate(7)).inquiries == asked.inquiries
    assert traffic(shop, seed=8) != asked


def test_refuses_what_cannot_be_made(shop: Shop) -> None:
    with pytest.raises(InputError, match="cannot make 0 requests"):
        traffic(shop, requests=0)
    with pytest.raises(InputError, match="no more order"):
        traffic(generate(7, customers=30))
