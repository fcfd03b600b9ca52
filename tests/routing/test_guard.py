"""The guard's bound holds for any predictions, prices, lengths and outcomes."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.errors import ConfigError
from agentmesh.routing import (
    Guard,
    Outlook,
    TierFacts,
    TierPrices,
    alone_usd,
    choose,
    may_lose,
    stake_usd,
)

SMALL = TierPrices(input=1, output=5, read=0.1, write=1.25)
LARGE = TierPrices(input=5, output=25, read=0.5, write=6.25)

MONEY = st.floats(0, 100, allow_nan=False)
PRICES = st.builds(TierPrices, MONEY, MONEY, MONEY, MONEY)
CHANCE = st.floats(0, 1, allow_nan=False)


class Done(NamedTuple):
    """One step: the tokens it adds, what is believed, what would happen; a pause ends caches."""

    new: int
    believed: float
    passes: bool
    steps: float
    pause: bool


STEPS = st.lists(
    st.builds(
        Done, st.integers(0, 20_000), CHANCE, st.booleans(), st.floats(1, 200), st.booleans()
    ),
    min_size=1,
    max_size=25,
)


def tiers(prices, warm):
    return [
        TierFacts(f"t{rank}", f"m{rank}", rank, price, warm[rank])
        for rank, price in enumerate(prices)
    ]


@settings(deadline=None)
@given(
    prices=st.lists(PRICES, min_size=2, max_size=3),
    shared=st.integers(0, 30_000),
    steps=STEPS,
    limit=st.sampled_from([0.0, 0.02, 0.2]),
    strict=st.booleans(),
)
def test_no_session_passes_the_bound_whatever_is_believed_and_whatever_happens(
    prices, shared, steps, limit, strict
):
    """Each step's tier drafts; if it fails, the next one that may be lost, up to the top."""
    guard, length, warm = Guard(limit=limit), 0, [shared, 0, shared][: len(prices)]
    paid = alone = 0.0
    for number, step in enumerate(steps):
        length += step.new
        warm = [min(tokens, length) for tokens in warm]
        facts = tiers(prices, warm)
        outlook = Outlook(steps=step.steps)
        if number == 0 and not strict:
            guard.stake_usd = stake_usd(length, step.new, facts, outlook, limit=limit)
        believed = dict.fromkeys(("t0", "t1"), step.believed)
        name = choose(length, facts, believed, outlook, guard, new_tokens=step.new).tier
        rank, spent = int(name[1:]), 0.0
        while True:
            price = prices[rank]
            read = warm[rank]
            spent += price.read * read / 1e6 + price.write * (length - read) / 1e6
            spent += price.output * outlook.output_tokens / 1e6
            warm[rank] = length
            if rank == len(prices) - 1 or step.passes:
                break
            lost = {"lost": spent}
            rank += 1
            while not may_lose(facts[rank], length, step.new, facts, guard, outlook, **lost):
                rank += 1
        own = alone_usd(length, step.new, facts, outlook, had=guard.had)
        guard.record(spent, own, had=warm[-1])
        if step.pause:
            warm = [min(tokens, shared) for tokens in warm]
        paid, alone = paid + spent, alone + own
        allowed = alone + max(limit * alone, guard.stake_usd)
        assert paid <= allowed or math.isclose(paid, allowed, rel_tol=1e-9, abs_tol=1e-12)


def facts(small_warm=0, large_warm=0):
    return [
        TierFacts("standard", "small", 0, SMALL, small_warm),
        TierFacts("flagship", "large", 1, LARGE, large_warm),
    ]


def test_without_a_stake_a_session_begins_on_the_top_tier_and_with_one_below_it():
    asked = (8_000, facts(), {"standard": 0.95})
    outlook = Outlook()
    stake = stake_usd(8_000, 8_000, facts(), outlook, limit=0.02)
    strict, staked = Guard(), Guard(stake_usd=stake)
    assert choose(*asked, outlook, strict, new_tokens=8_000).tier == "flagship"
    assert choose(*asked, outlook, staked, new_tokens=8_000).tier == "standard"
    assert stake == pytest.approx(5 * (8_000 * 1.25e-6 + 300 * 5e-6))


def test_what_the_top_tier_has_missed_counts_as_spent():
    """A lost draft is small, but the top tier must be shown 30,000 tokens before it can go on."""
    room = Guard(paid=0.9, alone=1.0)
    behind, fresh = facts(60_000, 30_000), facts(60_000, 60_000)
    assert may_lose(fresh[0], 60_000, 700, fresh, room)
    assert not may_lose(behind[0], 60_000, 700, behind, room)
    assert may_lose(behind[0], 60_000, 700, behind, Guard(paid=0.7, alone=1.0))


def test_a_long_session_may_lose_more_than_a_short_one_is_foreseen_to():
    short, long = (
        stake_usd(20_000, 1_000, facts(20_000, 20_000), Outlook(steps=steps), limit=0.02)
        for steps in (6, 200)
    )
    assert long > 5 * short


def test_the_top_tier_may_always_draft_and_alone_it_reads_what_it_has_seen():
    both = facts(0, 60_000)
    assert may_lose(both[1], 60_000, 700, both, Guard(paid=100.0))
    outlook = Outlook(output_tokens=0)
    seen = alone_usd(20_000, 1_000, facts(), outlook)
    assert seen == pytest.approx(19_000 * 0.5e-6 + 1_000 * 6.25e-6)
    assert alone_usd(20_000, 20_000, facts(0, 8_000), outlook) == pytest.approx(
        8_000 * 0.5e-6 + 12_000 * 6.25e-6
    )


@pytest.mark.parametrize(
    "use",
    [
        lambda: Guard(limit=-1),
        lambda: Guard(stake_usd=-1),
        lambda: Guard().record(-1.0, 1.0),
        lambda: Guard().record(1.0, float("nan")),
    ],
)
def test_refuses_what_makes_no_sense(use):
    with pytest.raises(ConfigError) as caught:
        use()
    assert caught.value.hint
