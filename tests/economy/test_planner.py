from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.economy.billing import Block, PrefixCache
from agentmesh.economy.planner import (
    Gaps,
    Plan,
    Shortfall,
    per_use,
    place_marks,
    plan,
    positions,
)
from agentmesh.economy.prices import Price
from agentmesh.economy.semantics import semantics
from agentmesh.prompt import Entry, Marks

OPUS = semantics("anthropic:claude-opus-5-5")
HAIKU = semantics("anthropic:claude-haiku-4-5")
GPT = semantics("openai:gpt-6.1-sol")
AUTO = semantics("openai:gpt-5")


def entry(seq, kind="user", tokens=100, blocks=None):
    blocks = blocks or [{"type": "text", "text": "hello"}]
    return Entry(seq, 1, seq, kind, json.dumps({"blocks": blocks}), tokens)


def calls(seq, number):
    made = [{"type": "call", "id": f"c{i}", "name": "f", "arguments": "{}"} for i in range(number)]
    return entry(seq, "assistant", blocks=made)


LAYERS = (("tools", 600), ("core", 900), ("profile", 80), ("task", 20))


def test_marks_the_shared_layers_all_that_is_frozen_and_the_end_of_the_log():
    marks = place_marks(LAYERS, [entry(1), entry(2, "assistant"), entry(3)], OPUS)
    assert marks.segments == {"core": "short", "profile": "short", "task": "short"}
    assert marks.entries == {3: "short"}


def test_a_model_that_caches_by_itself_gets_no_marks():
    assert place_marks(LAYERS, [entry(1)], AUTO) == Marks()
    assert place_marks(LAYERS, [entry(1)], semantics("openai-compatible:qwen3-8b")) == Marks()


def test_nothing_is_marked_below_the_minimum():
    assert place_marks((("core", 300),), [entry(1)], OPUS) == Marks()
    made = place_marks((("core", 300),), [entry(1, tokens=300)], OPUS)
    assert made == Marks({}, {1: "short"})


def test_the_anchor_is_marked_only_once_the_lookback_no_longer_reaches_it():
    log = [entry(seq, tokens=10) for seq in range(1, 40)]
    near = plan(LAYERS, log[:21], OPUS, anchor=2)  # 19 positions came after it
    assert 2 not in near.marks.entries
    far = plan(LAYERS, log[:22], OPUS, anchor=2)
    assert set(far.marks.entries) == {2, 22}
    assert len(far.places) == 4


def test_a_run_of_calls_is_one_position_and_a_step_of_many_texts_is_many():
    assert positions(calls(1, 30)) == 1
    said = [{"type": "text", "text": "x"}] * 25
    assert positions(entry(1, blocks=said)) == 25
    big = [entry(1, tokens=600), entry(2, blocks=said, tokens=50)]
    assert set(plan((("core", 600),), big, OPUS, anchor=1).marks.entries) == {1, 2}


def test_without_an_anchor_spare_slots_reach_further_back():
    log = [entry(seq, tokens=10) for seq in range(1, 46)]
    made = plan((("core", 600),), log, OPUS)
    marked = sorted(made.marks.entries)
    assert marked == [5, 25, 45]
    assert len(made.places) == OPUS.max_marks


def test_an_anchor_that_cannot_bear_a_mark_gives_way_to_the_entry_before_it():
    thought = [{"type": "opaque", "model": "m", "data": {}}]
    log = [entry(1), entry(2), entry(3, "assistant", blocks=thought)]
    log += [entry(seq, tokens=10) for seq in range(4, 30)]
    assert set(plan(LAYERS, log, OPUS, anchor=3).marks.entries) == {2, 29}


def test_openai_marks_stand_neither_on_tools_nor_on_answers():
    layers = (("tools", 2000),)
    made = plan(layers, [entry(1), entry(2, "assistant")], GPT)
    assert made.marks == Marks({}, {1: "short"})


def test_blank_entries_bear_no_mark():
    blank = entry(2, blocks=[{"type": "text", "text": "  "}])
    assert plan(LAYERS, [entry(1), blank], OPUS).marks.entries == {1: "short"}


def test_the_organisation_is_kept_apart_from_the_core_where_a_slot_is_left():
    layers = (("core", 900), ("org", 100))
    made = plan(layers, [entry(1)], OPUS)
    assert list(made.marks.segments) == ["core", "org"]


def test_short_gaps_take_the_short_life_and_long_gaps_the_long_one():
    log = [entry(1, tokens=900), entry(2, "assistant"), entry(3)]
    brisk = plan(LAYERS, log, OPUS, gaps=Gaps([20.0] * 9, [30.0] * 9))
    assert set(brisk.marks.segments.values()) | set(brisk.marks.entries.values()) == {"short"}
    slow = plan(LAYERS, log, OPUS, gaps=Gaps([900.0] * 9, [900.0] * 9))
    assert set(slow.marks.segments.values()) | set(slow.marks.entries.values()) == {"long"}
    rare = plan(LAYERS, log, OPUS, gaps=Gaps([9e9] * 9, [9e9] * 9))
    assert set(rare.marks.segments.values()) == {"short"}


def test_shared_layers_live_long_while_a_session_that_ends_soon_does_not():
    made = plan(LAYERS, [entry(1)], OPUS, gaps=Gaps([900.0] * 9, [10.0] * 9))
    assert made.marks.segments["core"] == "long"
    assert made.marks.entries == {1: "short"}


def test_gaps_are_seen_per_session_and_over_all_of_them():
    gaps = Gaps.between([[100.0, 0.0], [50.0]])
    assert gaps == Gaps(shared=(50.0, 50.0), session=(100.0,))
    assert Gaps.between([]) == Gaps()


def test_per_use_counts_the_first_write_and_each_later_one():
    read, write, long = OPUS.read_multiplier, OPUS.write_multiplier, OPUS.long_write_multiplier
    assert per_use(OPUS, [10.0], "short") == (write + read) / 2
    assert per_use(OPUS, [301.0], "short") == write
    assert per_use(OPUS, [301.0], "long") == (long + read) / 2
    assert per_use(OPUS, (), "long") == long
    assert per_use(OPUS, [10.0, 20.0], "short", grown=4) == write / 4 + read / 2


def replayed(rules, times, ttl, tokens=2_000):
    """Return what a vendor charges for one prefix used at these times, in fresh tokens."""
    clock = [0.0]
    cache = PrefixCache(rules, clock=lambda: clock[0])
    cost = Decimal(0)
    for now in times:
        clock[0] = now
        lookup = cache.look_up([Block(b"prefix", tokens, ttl, 1)])
        cache.begin(lookup)
        used = lookup.usage
        cost += used.read * rules.read_multiplier + used.write * rules.write_multiplier
        cost += used.write_long * rules.long_write_multiplier
    return cost


pauses = st.lists(
    st.sampled_from([0.5, 30.0, 299.0, 301.0, 900.0, 1_799.0, 1_801.0, 3_700.0, 50_000.0])
    | st.floats(0.1, 90_000),
    min_size=1,
    max_size=12,
)


@given(rules=st.sampled_from((OPUS, GPT)), gaps=pauses)
def test_the_chosen_life_is_the_cheaper_one_when_the_trace_is_replayed(rules, gaps):
    times = list(accumulate(gaps, initial=0.0))
    bills = {ttl: replayed(rules, times, ttl) for ttl in ("short", "long")}
    gaps = [b - a for a, b in pairwise(times)]  # as a clock shows them
    costs = {ttl: per_use(rules, gaps, ttl) * len(times) * 2_000 for ttl in bills}
    assert {ttl: round(cost, 6) for ttl, cost in costs.items()} == bills
    made = plan((("core", 2_000),), [entry(1)], rules, gaps=Gaps(shared=gaps))
    assert bills[made.marks.segments["core"]] == min(bills.values())


def test_a_long_life_says_why_and_a_short_one_needs_no_reason():
    log = [entry(1, tokens=900)]
    assert plan(LAYERS, log, OPUS, gaps=Gaps([20.0] * 9, [30.0] * 9)).marks.why == ""
    why = plan(LAYERS, log, OPUS, gaps=Gaps([900.0] * 9, [20.0] * 9)).marks.why
    assert why.startswith("the long life up to core: of 9 pauses of the shared layers 9 outlast")
    assert "of 9 pauses of the session 0 outlast 300 s" in why


def test_the_log_lives_long_only_if_what_it_keeps_is_worth_what_it_adds():
    """One pause in twelve outlasts the short life: a long log is kept, a young one is not."""
    gaps = Gaps([5.0] * 12, [5.0] * 11 + [900.0])
    said = [entry(1), entry(2, "assistant")]
    young = plan(LAYERS, [*said, entry(3, tokens=2_000)], OPUS, gaps=gaps)
    assert young.marks.entries == {3: "short"}
    log = [entry(n, ("user", "assistant")[n % 2], tokens=500) for n in range(1, 40)]
    assert set(plan(LAYERS, log, OPUS, gaps=gaps).marks.entries.values()) == {"long"}


def test_a_prefix_just_below_the_minimum_is_reported_with_what_it_costs():
    made = plan((("tools", 1000), ("core", 2900)), [entry(1, tokens=50)], HAIKU)
    assert made == Plan(shortfall=Shortfall("core", 3900, 4096))
    assert made.shortfall.missing == 196
    # 3,900 tokens at a dollar a million rather than at ten cents
    assert made.shortfall.cost(Price(1, 5, read="0.1")) == 3510
    assert "196 fewer" in str(made.shortfall)


def test_a_shared_layer_below_the_minimum_is_reported_even_if_the_whole_prompt_is_cached():
    made = plan((("core", 3900),), [entry(1, tokens=900)], HAIKU)
    assert made.marks.entries == {1: "short"}
    assert made.shortfall == Shortfall("core", 3900, 4096)


def test_a_tiny_prompt_is_no_shortfall():
    assert plan((("core", 40),), [entry(1, tokens=5)], HAIKU).shortfall is None


def test_a_model_without_a_long_life_gets_short_marks():
    rules = replace(OPUS, long_ttl_s=None)
    made = plan(LAYERS, [entry(1)], rules, ttl="long", gaps=Gaps([900.0], [900.0]))
    assert set(made.marks.segments.values()) == {"short"}


layers = st.lists(
    st.tuples(
        st.sampled_from(("core", "org", "profile", "task", "digest")),
        st.integers(0, 6000),
    ),
    unique_by=lambda layer: layer[0],
    max_size=5,
).map(lambda rows: [("tools", 700), *sorted(rows, key=lambda r: "coptd".find(r[0][0]))])
kinds = st.sampled_from(("user", "assistant", "tool", "note"))
texts = st.lists(st.sampled_from(("x", " ", "y")), min_size=1, max_size=24)
logs = st.lists(st.tuples(kinds, st.integers(0, 3000), texts), max_size=40).map(
    lambda rows: [
        entry(n, kind, tokens, [{"type": "text", "text": text} for text in said])
        for n, (kind, tokens, said) in enumerate(rows, 1)
    ]
)
seconds = st.lists(st.floats(0, 1e6), max_size=5)


@given(
    layers=layers,
    log=logs,
    rules=st.sampled_from((OPUS, HAIKU, GPT, AUTO)),
    anchor=st.none() | st.integers(0, 41),
    gaps=st.none() | st.builds(Gaps, seconds, seconds),
)
def test_every_plan_is_one_that_the_vendor_accepts(layers, log, rules, anchor, gaps):
    made = plan(layers, log, rules, anchor=anchor, gaps=gaps)
    marks = made.marks
    by_seq = {e.seq: e for e in log}
    order = [name for name, _ in layers if name in marks.segments] + sorted(marks.entries)
    ttls = [marks.segments.get(at) or marks.entries.get(at) for at in order]
    assert len(order) == len(made.places) == len(marks.segments) + len(marks.entries)
    assert len(order) <= rules.max_marks
    assert ttls == sorted(ttls)  # "long" before "short"
    assert all(place.tokens >= rules.minimum for place in made.places)
    assert [place.at for place in made.places] == order
    for seq in marks.entries:
        assert by_seq[seq].body.count('"x"') + by_seq[seq].body.count('"y"')
        assert rules is not GPT or by_seq[seq].kind != "assistant"
    assert rules is not GPT or "tools" not in marks.segments


@pytest.mark.parametrize("model", ["anthropic:claude-opus-5-5", "openai:gpt-6.1-sol"])
def test_planning_is_a_pure_function_of_what_it_is_given(model):
    log = [entry(seq) for seq in range(1, 60)]
    rules = semantics(model)
    first = plan(LAYERS, log, rules, anchor=7)
    assert plan(LAYERS, list(log), rules, anchor=7) == first
