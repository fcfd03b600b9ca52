from __future__ import annotations

import random
from itertools import pairwise

import pytest

from agentmesh.economy.billing import Block, CacheSpace, digest
from agentmesh.economy.planner import place_marks
from agentmesh.economy.semantics import semantics
from agentmesh.economy.usage import Usage
from agentmesh.economy.warmth import Outline, Point, Seen, Warmth, outline, replay
from agentmesh.errors import InputError
from agentmesh.prompt import Entry, Marks, Prompt, Segment, ToolSpec

OPUS = "anthropic:claude-opus-5-5"
MODELS = (OPUS, "anthropic:claude-haiku-4-5", "openai:gpt-6.1-sol", "openai:gpt-4o")
TOOLS = (ToolSpec("find", "x" * 1200, "{}"),)


def entry(seq, tokens=50):
    kind = ("user", "assistant", "tool")[seq % 3]
    block = {"type": "text", "text": "x"}
    return Entry(
        seq, 1, seq, kind, f'{{"blocks":[{str(block).replace(chr(39), chr(34))}]}}', tokens
    )


def prompt(log, model=OPUS, *, core="c" * 4000, profile="", anchor=None, tail="now"):
    segments = (Segment("core", core), *([Segment("profile", profile)] if profile else []))
    layers = [("tools", 302), *((s.name, -(-len(s.text) // 4)) for s in segments)]
    marks = place_marks(layers, log, semantics(model), anchor=anchor)
    return Prompt(TOOLS, segments, tuple(log), tail=tail, marks=marks)


def blocks(seen):
    """An outline as the billing simulator has it."""
    start = [Point("", 0, -1), *seen.points]
    made = [
        Block(digest("", b.key), b.tokens - a.tokens, b.mark, b.position, b.closes)
        for a, b in pairwise(start)
    ]
    end = start[-1]
    return [*made, Block(digest("tail", str(end.tokens)), seen.tokens - end.tokens, None, 10**6)]


def test_the_outline_names_prefixes_by_their_content():
    one, two = outline(prompt([entry(1)]), "a"), outline(prompt([entry(1)]), "b")
    assert [p.key for p in one.points[:2]] == [p.key for p in two.points[:2]]
    assert one.points[2].key != two.points[2].key
    other = outline(prompt([entry(1)], core="d" * 4000), "a")
    assert other.points[1].key != one.points[1].key
    assert one.tokens == 302 + 1000 + 50 + 1
    assert [p.shared for p in one.points] == [True, True, False]


def test_one_users_call_warms_the_next_users():
    warmth = Warmth()
    warmth.note(OPUS, outline(prompt([entry(1)]), "a"), at=0.0)
    predicted = warmth.predict(OPUS, outline(prompt([entry(1)]), "b"), now=200.0)
    assert predicted.usage == Usage(fresh=1, read=1302, write=50)
    assert predicted.until == 300.0


def test_a_read_prolongs_and_time_ends():
    warmth = Warmth()
    seen = outline(prompt([entry(1)]), "a")
    warmth.note(OPUS, seen, at=0.0)
    warmth.note(OPUS, seen, at=200.0)
    assert warmth.predict(OPUS, seen, now=499.0).usage.read == 1352
    assert warmth.predict(OPUS, seen, now=500.0).usage.read == 0
    assert warmth.warm(499.0)[0].until == 500.0
    assert warmth.warm(500.0) == []


def test_each_model_has_its_own_cache():
    warmth = Warmth()
    seen = outline(prompt([entry(1)]), "a")
    warmth.note(OPUS, seen, at=0.0)
    assert warmth.predict("anthropic:claude-sonnet-5-5", seen, now=1.0).usage.read == 0
    assert warmth.warm(1.0, "anthropic:claude-sonnet-5-5") == []


def test_a_bill_that_says_otherwise_is_believed():
    warmth = Warmth()
    seen = outline(prompt([entry(1)]), "a")
    warmth.note(OPUS, seen, at=0.0)
    surprise = warmth.learn(OPUS, seen, Usage(fresh=1, write=1352), at=10.0)
    assert (surprise.read, surprise.expected, surprise.significant) == (0, 1352, True)
    again = warmth.learn(OPUS, seen, Usage(fresh=1, read=1352), at=20.0)
    assert not again.significant


def test_a_layer_that_survived_an_eviction_stays_warm():
    warmth = Warmth()
    seen = outline(prompt([entry(1, 500)]), "a")
    warmth.note(OPUS, seen, at=0.0)
    grown = outline(prompt([entry(1, 500), entry(2)]), "a")
    warmth.learn(OPUS, grown, Usage(fresh=1, read=1302, write=550), at=200.0)
    after = {w.tokens: w.until for w in warmth.warm(200.0)}
    assert after == {1302: 500.0, 1852: 500.0}


def test_a_vendors_own_tokens_are_learned_from_its_bills():
    warmth = Warmth()
    seen = outline(prompt([entry(1)]), "a")
    warmth.learn(OPUS, seen, Usage(fresh=2, write=1758), at=0.0)
    predicted = warmth.predict(OPUS, seen, now=1.0).usage
    assert abs(predicted.read - 1757) <= 2
    assert warmth.scale(OPUS) == pytest.approx(1.301, abs=0.01)


def test_a_failed_call_teaches_nothing():
    warmth = Warmth()
    seen = outline(prompt([entry(1)]), "a")
    assert warmth.learn(OPUS, seen, Usage(), at=0.0) == (0, 0, False)
    assert warmth.warm(0.0) == []


@pytest.mark.parametrize("model", MODELS)
def test_predicts_what_the_vendors_rules_bill(model):
    """Interleaved sessions that grow, pause, fold and switch users, against the simulator."""
    rng = random.Random(5)
    now = 0.0
    space = CacheSpace(clock=lambda: now)
    warmth = Warmth()
    logs = {name: [entry(1)] for name in "abcd"}
    anchors = {}
    for step in range(400):
        now += rng.choice((1.0, 5.0, 40.0, 320.0))
        name = rng.choice("abcd")
        log = logs[name]
        log += [
            entry(log[-1].seq + i, rng.randrange(1, 400)) for i in range(1, rng.choice((3, 30)))
        ]
        if len(log) > 120:
            del log[:60]
            anchors.pop(name, None)
        profile = f"version {step // 150}" * 20
        asked = prompt(log, model, profile=profile, anchor=anchors.get(name))
        seen = outline(asked, name)
        lookup = space.cache("key", model).look_up(blocks(seen), at=now, implicit="short")
        if model == "openai:gpt-6.1-sol":  # marks alone decide, as our requests say
            lookup = space.cache("key", model).look_up(blocks(seen), at=now, implicit=None)
        assert warmth.predict(model, seen, now).usage == lookup.usage, step
        space.cache("key", model).begin(lookup)
        warmth.learn(model, seen, lookup.usage, now)
        anchors[name] = log[-1].seq


def test_a_new_process_knows_what_the_ledger_knows():
    seen = outline(prompt([entry(1)]), "a")
    calls = [Seen(OPUS, seen, Usage(write=1353), 0.0), Seen(OPUS, seen, Usage(read=1353), 50.0)]
    assert replay(calls).predict(OPUS, seen, now=340.0).usage.read > 1300


def test_a_clock_that_goes_backwards_is_refused():
    seen = Outline((), 10)
    with pytest.raises(InputError, match="follows one at"):
        replay([Seen(OPUS, seen, Usage(fresh=1), 5.0), Seen(OPUS, seen, Usage(fresh=1), 4.0)])


def test_old_lives_are_forgotten():
    warmth = Warmth()
    for number in range(5000):
        seen = Outline((Point(f"k{number}", 900, 1, "short"),), 900)
        warmth.note(OPUS, seen, at=number * 10.0)
    assert len(warmth.warm(0.0)) < 4200


def test_a_prompt_without_marks_leaves_nothing_behind():
    warmth = Warmth()
    bare = Prompt(TOOLS, (Segment("core", "c" * 4000),), (entry(1),), marks=Marks())
    warmth.note(OPUS, outline(bare, "a"), at=0.0)
    assert warmth.warm(1.0) == []
