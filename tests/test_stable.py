"""What changes by itself has no place in a stable part of a prompt."""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from time import ctime, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel

from agentmesh import Agent, Tier
from agentmesh.errors import ConfigError, InputError
from agentmesh.memory import Core, Memory
from agentmesh.memory.conformance import CORE, answer, begin, say
from agentmesh.prompt import ToolSpec
from agentmesh.stable import NEAR_S, drift, stable_text
from agentmesh.testing import assert_stable

NOW = 1_795_555_240.0
SYDNEY = timezone(timedelta(hours=11))


def at(seconds: float, zone: timezone | None = UTC) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, zone)


VOLATILE = {
    "iso": f"It is {at(0).isoformat()} now.",
    "local": f"It is {at(-5, None)} now.",
    "zoned": f"It is {at(60, SYDNEY).isoformat(sep=' ')} now.",
    "zulu": f"asked at {at(1):%Y-%m-%dT%H:%M:%SZ}",
    "ctime": f"It is {ctime(NOW)}.",
    "mail": f"Date: {at(2):%a, %d %b %Y %H:%M:%S} GMT",
    "seconds": f"t={int(NOW)} and so on",
    "milliseconds": f"t={NOW * 1e3:.0f}",
    "address": "Use <desk.Shop object at 0x7f34a133a690>.",
    "uuid7": f"run {uuid.UUID(int=(int(NOW * 1e3) << 80) | (7 << 76) | (2 << 62) | 99)}",
}

FINE = (
    "Orders before 2026-11-24 can be returned.",
    f"Rule of {at(0):%Y-%m-%d}: be kind. Office hours are from 09:00:00 to 17:00:00.",
    f"The incident began at {at(-2 * NEAR_S).isoformat()}.",
    "Call 1800123456 or +1 (555) 123-4567",
    "Tenant 7d444840-9dc0-11d1-b245-5ffdce74fad2, plan 3f2b8c1e-5d7a-4c3b-9a8e-1f2e3d4c5b6a.",
    "2026-13-45T99:99:99 is no time; 0x7f34a133a690 is a number; {'a', 'b'} is a set.",
)


@pytest.mark.parametrize("text", VOLATILE.values(), ids=VOLATILE)
def test_the_clock_ids_and_addresses_are_refused_by_name(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^the segment 'instructions' holds (the time|an)"
    ) as caught:
        stable_text("instructions", f"You are a desk. {text} Be kind.", now=NOW)
    assert "tail" in caught.value.hint
    assert str(caught.value).split(": ", 1)[1].strip("'") in text  # the very value is named


@pytest.mark.parametrize("text", FINE)
def test_dates_numbers_and_fixed_ids_are_fine(text: str) -> None:
    assert stable_text("instructions", text, now=NOW) == text


@given(st.text(alphabet=st.characters(codec="utf-8")), st.floats(0, 4e9))
def test_no_text_is_too_odd_to_be_checked(text: str, now: float) -> None:
    assert stable_text("s", text, now=now) == text


@given(st.floats(-NEAR_S + 2, NEAR_S - 2), st.integers(-14 * 4, 14 * 4))
def test_a_zoned_time_near_now_is_refused_in_every_zone(seconds: float, quarters: int) -> None:
    zone = timezone(timedelta(minutes=15 * quarters))
    with pytest.raises(ConfigError, match="the time"):
        stable_text("s", at(seconds, zone).isoformat(), now=NOW)
    far = at(seconds + 3 * NEAR_S, zone).isoformat()
    assert stable_text("s", far, now=NOW) == far


@pytest.mark.parametrize(
    "instructions", [lambda: "Be kind.", b"Be kind.", None, {"be", "kind"}, datetime.now(UTC)]
)
def test_instructions_are_text(instructions: Any) -> None:
    model = FakeListChatModel(responses=["Hi"])
    with pytest.raises(ConfigError, match="the segment 'instructions' is text, not"):
        Agent("a", instructions, tiers=[Tier("only", model)])


def test_an_agent_refuses_the_clock_in_instructions_and_tools() -> None:
    model = FakeListChatModel(responses=["Hi"])
    with pytest.raises(ConfigError, match="'instructions' holds the time: '20"):
        Agent("a", f"It is {datetime.now(UTC).isoformat()}.", tiers=[Tier("only", model)])
    with pytest.raises(ConfigError, match="'tool clock' holds the time"):
        Core((ToolSpec("clock", f"Now: {time():.0f}", "{}"),), "You are a desk.")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"b", "a"}, "a set, which has no order: "),
        (frozenset({1}), "a set"),
        (datetime.now(UTC), "a value of the clock: datetime"),
        (date(2026, 1, 1), "a value of the clock"),
        (uuid.uuid4(), "an id: UUID"),
        (lambda: 1, "a function"),
        (object(), "an object that is no JSON: <object"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"a": [1, v]}])
def test_a_bucket_refuses_what_changes_by_itself(value: Any, what: str, wrap: Any) -> None:
    memory = Memory()
    with pytest.raises(InputError, match=f"'seen' of the profile of 'u1' holds {what}") as caught:
        memory.profile("u1").set("seen", wrap(value))
    assert "sorted list" in caught.value.hint
    assert memory.profile("u1").items() == []
    memory.profile("u1").set("born", "1990-05-04T11:00:00")
    memory.close()


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        (
            f"run {uuid.UUID(int=4**50)}: be kind",
            f"run {uuid.UUID(int=5**50)}: be kind",
            "a time, an id",
        ),
        ("It is Mon 2 Nov, 10:01", "It is Tue 3 Nov, 9:59", "a time, an id"),
        ("Sizes: {'S', 'M', 'L'}", "Sizes: {'L', 'S', 'M'}", "the order"),
        ("Be kind.", "Be brief.", ""),
        ("Be kind.", "Be kind.", ""),
        ("Rule 1: be kind.", "Rule 1: be kind. Rule 2: be brief.", ""),
    ],
)
def test_drift_is_what_changes_without_an_edit(before: str, after: str, cause: str) -> None:
    found = drift(before, after)
    assert (found.cause if found else "").startswith(cause)
    assert bool(found) == bool(cause)
    if found:
        assert found.before != found.after
        assert found.before in before
        assert found.after in after


def test_the_next_process_tells_of_instructions_that_drift(
    caplog: pytest.LogCaptureFixture,
) -> None:
    memory = Memory()
    say(memory)
    turn = begin(memory)
    with caplog.at_level(logging.WARNING, "agentmesh"):
        turn.recall(Core(CORE.tools, "You answer better."))  # an edit is nobody's mistake
        assert caplog.messages == []
        turn.recall(Core(CORE.tools, "Case 1f3a9c77aa: you answer."))
        turn.recall(Core(CORE.tools, "Case 99b2e1f0cd: you answer."))
    (message,) = caplog.messages
    assert message.startswith("the instructions are written anew in each process")
    assert "1f3a9c77aa" in message
    assert "99b2e1f0cd" in message
    answer(turn)
    memory.close()


_PROGRAM = """
import time, uuid
from types import SimpleNamespace
from agentmesh.memory import Core

def make(text): return SimpleNamespace(core=Core((), text))

print("this module talks")
fixed = make("Sizes: S, M, L")
def clock(): return make(f"It is {time.strftime('%H:%M:%S')}.")
def ids(): return make(f"Case {uuid.uuid4()}.")
def sets(): return make(f"Sizes: { {'S', 'M', 'L', 'XL', 'XXL'} }")
"""


def test_two_processes_tell_whether_an_agent_is_stable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "desks.py").write_text(_PROGRAM)
    monkeypatch.syspath_prepend(tmp_path)
    assert_stable("desks:fixed", apart_s=0)
    for name in ("clock", "ids", "sets"):
        with pytest.raises(AssertionError, match="instructions is not the same in every process"):
            assert_stable(f"desks:{name}", apart_s=1.1 if name == "clock" else 0)
    with pytest.raises(ConfigError, match=r"'desks:nobody' cannot be made: AttributeError"):
        assert_stable("desks:nobody")
