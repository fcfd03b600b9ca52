"""The benchmark's sessions: what they are billed is what the emulator's rules say."""

import itertools
from dataclasses import replace

import pytest

from benchmarks.routing import trace as traces
from benchmarks.routing.hindsight import hindsight, least
from benchmarks.routing.sessions import escalated
from benchmarks.routing.trace import (
    Always,
    Desk,
    Pair,
    Replayed,
    Routed,
    by_step,
    fitness,
    play,
    trace,
)

PAIR = Pair("anthropic:claude-haiku-4-5", "anthropic:claude-opus-4-8")


@pytest.fixture(scope="module")
def short():
    return trace(0, 0.1)[:9]


def test_a_single_tier_reads_all_but_the_newest_tokens(short):
    desk = Desk(PAIR)
    usages = [desk.usage(PAIR.large, asked, begin=True) for asked in short]
    assert [u.fresh for u in usages] == [0] * len(short)
    assert [u.write for u in usages] == [8_700] + [1_000] * (len(short) - 1)
    assert [u.input for u in usages] == [asked.length for asked in short]


def test_a_tier_comes_back_to_its_anchor_and_without_one_only_to_the_shared_prefix():
    steps = trace(0, 0.0)
    for anchors, read in ((True, 8_700), (False, 8_000)):
        desk = Desk(PAIR, anchors=anchors)
        desk.call(PAIR.large, steps[0])
        assert desk.usage(PAIR.large, steps[15]).read == read


def test_a_failed_draft_is_paid_and_made_again(short):
    failing = [asked._replace(ok=False) for asked in short]
    small, large = (Pair(model, model) for model in PAIR)
    both = play(failing, PAIR, Always(PAIR.small))
    alone = [play(failing, pair, Always(pair.large)) for pair in (small, large)]
    assert both == pytest.approx(sum(alone))


def test_hindsight_is_the_cheapest_of_all_sequences(short):
    found = play(short, PAIR, Replayed(hindsight(short, PAIR)))
    every = itertools.product(*([PAIR.large, *[PAIR.small] * asked.ok] for asked in short))
    least = min(play(short, PAIR, Replayed(models)) for models in every)
    assert found == pytest.approx(least)


def test_hindsight_leaves_next_to_nothing_to_other_marks_or_longer_lives(short):
    found = play(short, PAIR, Replayed(hindsight(short, PAIR)))
    assert 0.98 * found < least(short, PAIR) <= found


def test_a_last_call_that_nobody_reads_is_cheaper_without_its_mark(short):
    one = short[:1]
    marked = play(one, PAIR, Replayed(hindsight(one, PAIR)))
    model = PAIR.small if one[0].ok else PAIR.large
    price = traces.PRICES.price(model, at=one[0].at)
    spared = (price.write - price.input) * one[0].length / 1_000_000
    assert least(one, PAIR) == pytest.approx(marked - float(spared))


def test_no_session_costs_more_than_the_bound_above_the_large_tier_alone():
    """A router that is always sure of the small tier, which fails at nearly everything."""
    for pair in (PAIR, Pair("anthropic:claude-sonnet-5-5", "anthropic:claude-opus-5-5")):
        steps = [
            asked._replace(ok=number % 7 == 0, chance=0.999)
            for number, asked in enumerate(trace(1, 0.0))
        ]
        large = play(steps, pair, Always(pair.large))
        assert play(steps, pair, Routed(pair, limit=1e9)) > 1.05 * large
        assert large < play(steps, pair, Routed(pair)) <= 1.02 * large


def test_the_routers_probabilities_are_calibrated_and_kinds_come_in_runs():
    seen = [pair for seed in range(60) for pair in fitness(100, f"s{seed}", 0.0)]
    for low, high in ((0.0, 0.2), (0.4, 0.6), (0.8, 1.0)):
        chances = [(ok, chance) for ok, chance in seen if low <= chance <= high]
        share = sum(ok for ok, _ in chances) / len(chances)
        assert share == pytest.approx(sum(c for _, c in chances) / len(chances), abs=0.06)
    kept = sum(a[0] == b[0] for a, b in itertools.pairwise(seen)) / len(seen)
    assert kept == pytest.approx(0.7 + 0.3 * 0.52, abs=0.03)


def test_the_choice_saves_more_than_deciding_each_step_anew():
    steps = trace(3, 0.0)[:60]
    routed = play(steps, PAIR, Routed(PAIR))
    assert routed < play(steps, PAIR, by_step, anchors=False)
    assert routed < play(steps, PAIR, Always(PAIR.large))


def test_an_escalation_at_60k_tokens_costs_a_fraction_of_a_cold_replay():
    (figure,) = escalated(None)
    assert figure.reached
    assert figure.high < 25


def test_sessions_with_the_same_frozen_text_share_its_cache(short):
    desk = Desk(PAIR)
    desk.call(PAIR.large, short[0])
    other = short[0]._replace(session="other")
    assert desk.usage(PAIR.large, other).read == traces.PREFIX
    assert desk.usage(PAIR.large, other._replace(session="third", frozen="else")).read == 0
    assert replace(desk.usage(PAIR.small, other), output=0).read == 0
