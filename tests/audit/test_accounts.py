from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import pytest

from agentmesh.audit.accounts import add_up
from agentmesh.audit.prompts import Parting, parting, sent
from agentmesh.economy.prices import Price, PriceBook
from agentmesh.errors import ConfigError
from agentmesh.memory import Core
from agentmesh.prompt import Entry, Prompt, Segment

OPUS = "anthropic:claude-opus-5-5"


def test_sums_by_every_key_agree_with_the_ledger(busy):
    stage = busy()
    calls = stage.memory.ledger.calls()
    report = add_up(stage.memory)
    assert report.total.calls == len(calls) == 10
    assert report.total.cost == sum(call.cost or 0 for call in calls)
    assert report.total.unpriced == 1
    for rows in report.by.values():
        assert sum(row.calls for row in rows.values()) == 10
        assert sum(row.cost for row in rows.values()) == report.total.cost
    assert next(iter(report.by["model"])) == OPUS
    assert set(report.by["user"]) == {"u1", "u2", "u3"}
    read = sum(call.usage.read for call in calls) / sum(call.usage.input for call in calls)
    assert report.total.read_share == pytest.approx(read)


def test_names_the_cause_of_every_miss(busy):
    report = add_up(busy().memory, last=99)
    causes = {(row.session, row.cause) for row in report.misses}
    assert causes == {
        ("s1", "first visit"),
        ("s1", "ttl"),
        ("s1", "memory fold"),
        ("s2", "model switch"),
        ("s2", "tool change"),
        ("s3", "first visit"),
    }
    assert report.explained == 1.0
    assert report.waste["ttl"].cost > 0
    assert sum(row.tokens for row in report.waste.values()) == report.missed


def test_shows_the_exact_place_where_a_prompt_parted(busy):
    report = add_up(busy().memory, last=99)
    folded = next(row for row in report.misses if row.cause == "memory fold")
    assert folded.parting.segment.startswith("entry 1 (user) / profile") or (
        folded.parting.segment == "profile"
    )
    changed = next(row for row in report.misses if row.cause == "tool change")
    assert changed.parting.segment == "tools"
    assert "pay" in changed.parting.before + changed.parting.after
    expired = next(row for row in report.misses if row.cause == "ttl")
    assert expired.parting is None


def test_the_newest_misses_come_first_and_only_as_many_as_asked(busy):
    stage = busy()
    report = add_up(stage.memory, last=2)
    ids = [row.call for row in report.misses]
    assert len(ids) == 2
    assert ids == sorted(ids, reverse=True)
    assert add_up(stage.memory, last=0).misses == []


def test_savings_replay_the_recorded_prompts_on_one_flagship(stage):
    calls = [stage.say("s1", f"Question {turn}") for turn in range(5)]
    saved = add_up(stage.memory).savings
    assert (saved.flagship, saved.steps) == (OPUS, 5)
    assert saved.cached == sum(call.cost for call in calls)  # it was the flagship, and cached
    assert saved.uncached > 2 * saved.cached


def test_savings_count_a_step_once_and_take_the_flagship_that_is_named(stage):
    stage.say("s1")
    book = PriceBook({"openai-compatible:big": Price(10, 50)})
    saved = add_up(stage.memory, prices=book, flagship="openai-compatible:big").savings
    assert saved.flagship == "openai-compatible:big"
    assert saved.uncached == saved.cached > 0  # no discount is known, so caching saves nothing
    with pytest.raises(ConfigError, match="price of 'openai-compatible:nobody' is unknown"):
        add_up(stage.memory, flagship="openai-compatible:nobody")


def test_a_failed_draft_is_counted_and_billed(stage):
    stage.say("s1", failed=True)
    total = add_up(stage.memory).total
    assert (total.calls, total.failed) == (1, 1)


def test_prompts_without_marks_are_named(stage):
    stage.cache = False
    stage.say("s1")
    stage.say("s1")
    report = add_up(stage.memory)
    assert set(report.waste) == {"first visit", "unmarked"}


def test_an_empty_ledger_is_an_empty_report(stage):
    report = add_up(stage.memory)
    assert report.total.calls == 0
    assert report.savings is None
    assert report.explained == 1.0
    json.dumps(report.as_dict())


def test_a_changed_log_is_said_and_does_not_stop_the_report(stage):
    stage.say("s1")
    stage.say("s1", wait=400.0)
    stage.memory.close()
    with sqlite3.connect(stage.path) as database:
        database.execute("UPDATE entries SET body = replace(body, 'order', 'parcel')")
    report = add_up(type(stage.memory)(stage.url), last=1)
    assert "cannot be rebuilt" in report.misses[0].place


def test_the_prompts_are_those_that_were_sent(busy):
    stage = busy()
    calls = stage.memory.ledger.calls(session="s1")
    for call, prompt in sent(stage.memory, "s1", calls):
        assert stage.memory.rebuild("s1", call) == replace(prompt, cache_key="")


def prompt(core, *bodies):
    entries = tuple(Entry(n, 1, 0, "user", body) for n, body in enumerate(bodies, 1))
    return Prompt((), (Segment("core", core),), entries)


def test_parting_finds_the_first_character_that_differs():
    old, new = prompt("c" * 500 + "Monday" + "d" * 500), prompt("c" * 500 + "Tuesday" + "d" * 500)
    found = parting(old, new)
    assert (found.segment, found.offset) == ("core", 500)
    assert "Monday" in found.before
    assert "Tuesday" in found.after
    assert found.before.startswith("…c")
    assert found.before.endswith("d…")


def test_a_prompt_that_only_grew_has_not_parted():
    assert parting(prompt("c", "a"), prompt("c", "a", "b")) is None


def test_a_log_that_was_cut_parts_where_it_ends():
    assert parting(prompt("c", "a", "b"), prompt("c", "a")) == Parting("entry 2 (user)", 0, "b", "")


def test_deploys_of_new_instructions_are_named(stage):
    stage.say("s1")
    stage.say("s1", core=Core(stage.tools, "You are another desk. " * 200))
    assert "instructions" in add_up(stage.memory).waste


def test_a_session_whose_epoch_is_gone_is_named_and_its_money_is_counted(stage):
    call = stage.say("s1")
    stage.say("s2")
    stage.memory.close()
    with sqlite3.connect(stage.path) as database:
        database.execute("DELETE FROM epochs WHERE session_id = 1")
    report = add_up(type(stage.memory)(stage.url))
    assert report.unread == ["s1"]
    assert report.by["session"]["s1"].cost == call.cost
    assert report.savings.steps == 1


def test_a_compaction_that_folds_memory_is_a_compaction(stage):
    for turn in range(3):
        stage.say("s1", f"Question {turn}")
    stage.memory.profile("u1").set("language", "German", source="user")
    stage.say("s1", compact=True)
    assert add_up(stage.memory).misses[0].cause == "compaction"
