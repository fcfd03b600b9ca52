from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.economy.cost_model import (
    Option,
    Outlook,
    Rates,
    WaterMarks,
    before_cold,
    break_even,
    cheapest,
    fan_out_saving,
    handover,
    horizon_cost,
    step_cost,
    tooth_cost,
    water_marks,
)
from agentmesh.economy.prices import Price, PriceBook
from agentmesh.economy.semantics import semantics
from agentmesh.errors import ConfigError

OPUS = Rates(fresh=4.0, read=0.2, write=5.0, write_long=8.0, output=20.0)
SONNET = Rates(fresh=2.0, read=0.1, write=2.5, write_long=4.0, output=10.0)
HAIKU = Rates(fresh=0.1, read=0.01, write=0.125, write_long=0.2, output=0.5)
AHEAD = Outlook(steps=10, growth=800, output=150)


def test_rates_come_from_the_price_list():
    assert Rates.of("anthropic:claude-opus-5-5", PriceBook()) == OPUS


def test_a_model_that_caches_by_itself_writes_at_the_fresh_price():
    book = PriceBook({"openai-compatible:qwen3-8b": Price("0.02", "0.06")})
    rates = Rates.of("openai-compatible:qwen3-8b", book)
    assert rates.write == rates.fresh == 0.02


def test_an_unknown_price_is_an_error_and_not_zero():
    with pytest.raises(ConfigError, match="price of 'openai-compatible:nobody' is unknown"):
        Rates.of("openai-compatible:nobody", PriceBook())


def test_a_cold_step_is_written_and_a_warm_one_read():
    cold = step_cost(Option("f", OPUS, warm=0), 10_000, 0)
    warm = step_cost(Option("f", OPUS, warm=10_000), 10_000, 0)
    assert (cold, warm) == (50_000, 2_000)
    assert step_cost(Option("f", OPUS, warm=99_999), 10_000, 0) == warm


def test_a_failure_costs_its_escalation_as_often_as_it_happens():
    sure = Option("student", HAIKU, warm=10_000)
    shaky = Option("student", HAIKU, warm=10_000, success=0.9, check=5, escalation=307_000)
    assert step_cost(shaky, 10_000, 0) - step_cost(sure, 10_000, 0) == pytest.approx(30_705)


def test_the_horizon_is_the_sum_of_its_steps():
    option, length, total = Option("f", OPUS, warm=0), 20_000, 0.0
    warm = 0
    for _ in range(10):
        total += step_cost(option._replace(warm=warm), length, AHEAD.output)
        warm, length = length, length + 800
    assert horizon_cost(option, 20_000, AHEAD) == pytest.approx(total, rel=0.01)


def test_stickiness_falls_out_of_the_sum():
    stay, switch = Option("opus", OPUS, warm=60_000), Option("sonnet", SONNET, warm=0)
    assert cheapest([stay, switch], 60_000, Outlook(3, 800, 150)) is stay
    assert cheapest([stay, switch], 60_000, Outlook(60, 800, 150)) is switch


def test_break_even_of_documented_switches():
    """The order of the published figures: 27 steps at 60k to Sonnet, at once to Haiku."""
    stay = Option("opus", OPUS, warm=60_000)
    assert 10 <= break_even(stay, Option("sonnet", SONNET, 0), 60_000, AHEAD) <= 30
    assert break_even(stay, Option("haiku", HAIKU, 0), 60_000, AHEAD) == 1
    assert break_even(Option("haiku", HAIKU, 60_000), Option("opus", OPUS, 0), 60_000, AHEAD) == (
        math.inf
    )


def test_no_option_is_an_error():
    with pytest.raises(ConfigError, match="no tier"):
        cheapest([], 1, AHEAD)


def test_an_escalation_takes_the_cheapest_way_that_quality_allows():
    assert handover(OPUS, 60_000).how == "replay"
    assert handover(OPUS, 60_000, anchor=55_000).how == "anchor"
    told = handover(OPUS, 60_000, shared=8_000, brief=3_000)
    assert told.how == "brief"
    assert told.cost == pytest.approx(0.2 * 8_000 + 5 * 3_000)
    assert handover(OPUS, 60_000, anchor=59_900, shared=8_000, brief=3_000).how == "anchor"


def test_the_high_mark_is_the_root_of_the_saw_tooths_cost():
    marks = water_marks(OPUS, frozen=6_000, growth=800, digest=800, kept=2_000)
    at = tooth_cost(OPUS, marks, 800, 800, 2_000)
    for off in (-4_000, 4_000):
        other = WaterMarks(marks.high + off, marks.low)
        assert tooth_cost(OPUS, other, 800, 800, 2_000) > at


def test_the_high_mark_stays_below_the_cliff():
    marks = water_marks(
        HAIKU, frozen=60_000, growth=9_000, digest=8_000, kept=20_000, cliff=100_000
    )
    assert marks.high <= 99_999
    with pytest.raises(ConfigError, match="no room to grow"):
        water_marks(HAIKU, frozen=98_000, growth=800, cliff=100_000)


def test_cheap_reads_make_long_histories():
    dear = water_marks(Rates(4, 0.4, 5, 8, 20), frozen=6_000, growth=800)
    cheap = water_marks(Rates(4, 0.1, 5, 8, 20), frozen=6_000, growth=800)
    assert cheap.high > dear.high


def test_idle_time_is_used_only_where_it_pays():
    facts = {"length": 40_000, "low": 9_000, "digest": 800}
    assert before_cold(OPUS, **facts, back=0.0, back_soon=0.0).action == "nothing"
    assert before_cold(OPUS, **facts, back=0.9, back_soon=0.1).action == "compact"
    assert before_cold(OPUS, **facts, back=0.9, back_soon=0.9).action == "keep"
    with pytest.raises(ConfigError, match="no probability"):
        before_cold(OPUS, **facts, back=1.5, back_soon=0.0)


def test_a_fan_out_saves_all_writes_but_one():
    assert fan_out_saving(OPUS, 10_000, 5) == pytest.approx(4 * 4.8 * 10_000)
    assert fan_out_saving(OPUS, 10_000, 1) == 0


@given(
    warm=st.integers(0, 200_000),
    length=st.integers(1, 200_000),
    steps=st.floats(1, 100),
    model=st.sampled_from((OPUS, SONNET, HAIKU)),
)
def test_warmth_never_costs(warm, length, steps, model):
    outlook = Outlook(steps, 800, 150)
    cold = horizon_cost(Option("t", model, 0), length, outlook)
    assert 0 < horizon_cost(Option("t", model, warm), length, outlook) <= cold


def test_rates_of_a_model_without_a_cache():
    price = Price(10, 30).complete("openai:gpt-4")
    rates = Rates.from_price(price, semantics("openai:gpt-4"))
    assert rates.read == rates.write == rates.fresh == 10
