from __future__ import annotations

from dataclasses import replace

import pytest

from agentmesh.economy.misses import Facts, Layer, Miss, miss
from agentmesh.economy.usage import Usage

OPUS = "anthropic:claude-opus-5-5"
HAIKU = "anthropic:claude-haiku-5-5"
LAYERS = (Layer("tools", "t1", 600), Layer("core", "c1", 900), Layer("profile", "p1", 100))


def call(**changes):
    """The second call of a session; the first one showed entries 1 to 3 and cached them all."""
    facts = Facts(
        model=OPUS,
        at=100.0,
        usage=Usage(fresh=0, read=2000, write=100),
        layers=LAYERS,
        first=1,
        head=5,
        log_tokens=500,
        before=400,
        positions=2,
        ttl_s=300.0,
        answered_at=102.0,
    )
    return replace(facts, **changes)


FIRST = call(at=90.0, answered_at=92.0, head=3, log_tokens=400, before=0, usage=Usage(write=2000))
COLD = Usage(write=2100)


def swap(name, sha):
    return tuple(layer._replace(sha=sha) if layer.name == name else layer for layer in LAYERS)


def test_what_was_read_is_no_miss():
    assert miss(FIRST, FIRST, call()) is None


def test_new_tokens_are_no_miss():
    grown = call(log_tokens=5000, before=400, usage=Usage(read=2000, write=4600))
    assert miss(FIRST, FIRST, grown) is None


@pytest.mark.parametrize(
    ("changes", "cause", "place"),
    [
        ({"layers": swap("tools", "t2")}, "tool change", "tools"),
        ({"layers": swap("core", "c2")}, "instructions", "core"),
        ({"layers": swap("profile", "p2")}, "memory fold", "profile"),
        ({"layers": LAYERS[:2]}, "memory fold", "profile"),
        ({"layers": (*LAYERS, Layer("digest", "d", 50))}, "compaction", "digest"),
        ({"first": 3}, "compaction", "log"),
        ({"first": 3, "layers": swap("profile", "p2")}, "compaction", "profile"),
        ({"at": 391.0}, "ttl", ""),
        ({"at": 91.0}, "race", ""),
        ({"positions": 20}, "lookback", ""),
        ({"vendor": "tools_changed"}, "tool change", "by the vendor's word"),
        ({"at": 80.0}, "unknown", "the clock went backwards"),
        ({"head": 2}, "unknown", "the log is shorter than before"),
        ({}, "eviction", ""),
    ],
)
def test_names_the_cause_of_a_cold_call(changes, cause, place):
    found = miss(FIRST, FIRST, call(usage=COLD, **changes))
    assert (found.cause, found.place) == (cause, place)
    assert found.tokens >= 1900


def test_the_first_call_of_a_session_is_a_first_visit_as_far_as_nothing_was_shared():
    warm = call(usage=Usage(read=1500, write=600))
    assert miss(None, None, warm) == Miss("first visit", 600)


def test_a_model_that_never_saw_the_session_is_a_switch():
    assert miss(FIRST, None, call(model=HAIKU, usage=COLD)).cause == "model switch"


def test_what_another_model_added_in_between_is_a_switch_too():
    between = call(model=HAIKU, at=95.0, head=5, log_tokens=900)
    back = call(log_tokens=1000, before=900, usage=Usage(read=2000, write=600))
    assert miss(between, FIRST, back) == Miss("model switch", 500)


def test_a_prompt_below_the_minimum_is_never_read():
    small = {"layers": (Layer("core", "c", 300),), "log_tokens": 50, "before": 40}
    first = call(at=90.0, **small, usage=Usage(fresh=340))
    assert miss(first, first, call(**small, usage=Usage(fresh=350))).cause == "below minimum"


def test_a_prompt_that_has_just_grown_past_the_minimum_missed_for_the_call_before():
    small = {"layers": (Layer("core", "c", 300),)}
    first = call(at=90.0, **small, log_tokens=100, usage=Usage(fresh=400))
    grown = call(**small, log_tokens=400, before=100, usage=Usage(write=700))
    assert miss(first, first, grown) == Miss("below minimum", 400, "the call before")


def test_a_prompt_without_marks_is_named():
    assert miss(replace(FIRST, ttl_s=0.0), replace(FIRST, ttl_s=0.0), call(usage=COLD)).cause == (
        "unmarked"
    )
