"""What the user did not say becomes a fact about them only as the developer's policy allows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.errors import ConfigError, ConflictError, InputError
from agentmesh.memory import Claim, Memory
from agentmesh.memory.conformance import say
from agentmesh.memory.epochs import bucket_segments, digest_segment, note_text
from agentmesh.memory.facts import Facts
from agentmesh.memory.render import prefix_text

UNTRUSTED: list[dict[str, Any]] = [
    {"source": "tool"},
    {"source": "import"},
    {"source": "user", "author": "u2"},
    {"source": "agent", "trust": "untrusted"},
]


def frozen(memory: Memory) -> str:
    return prefix_text(say(memory))


@pytest.mark.parametrize("how", UNTRUSTED)
def test_never_is_an_error_and_nothing_is_written(url: str, how: dict[str, Any]) -> None:
    memory = Memory(url, promote="never")
    with pytest.raises(InputError, match="is not changed: what") as caught:
        memory.profile("u1").set("kind", "gold", **how)
    assert "promote" in caught.value.hint
    assert memory.profile("u1").items() == memory.profile("u1").pending() == []
    memory.close()


@pytest.mark.parametrize("how", UNTRUSTED)
def test_ask_waits_for_a_person(url: str, how: dict[str, Any]) -> None:
    memory = Memory(url)
    profile = memory.profile("u1")
    profile.set("kind", "silver")
    first = profile.set("kind", "gold", **how)
    assert (first.pending, profile.get("kind")) == (True, "silver")
    assert "gold" not in frozen(memory)
    assert profile.pending() == [first]
    assert memory.export("u1")["pending"][0]["value"] == "gold"
    held = profile.decide("kind", accept=True, expect=first.revision)
    assert held is not None
    assert (held.value, held.trust, held.pending) == ("gold", "untrusted", False)
    assert profile.item("kind") == held
    assert profile.pending() == []
    assert 'kind: "gold" [unverified]' in frozen(memory).replace('\\"', '"')
    memory.close()


def test_a_person_may_reject_and_must_have_seen_what_waits(memory: Memory) -> None:
    profile = memory.profile("u1")
    first = profile.set("kind", "gold", source="tool")
    profile.set("kind", "platinum", source="tool")
    with pytest.raises(ConflictError, match="revision 2, not 1"):
        profile.decide("kind", accept=True, expect=first.revision)
    assert profile.decide("kind", accept=False) is None
    assert profile.items() == profile.pending() == []
    with pytest.raises(InputError, match="'kind' is not pending"):
        profile.decide("kind", accept=True)


def test_a_check_sees_the_claim_and_decides() -> None:
    seen: list[Claim] = []

    def check(claim: Claim) -> bool:
        seen.append(claim)
        return claim.key == "tier"

    memory = Memory(promote=check)
    profile = memory.profile("u1")
    assert profile.set("tier", "gold", source="tool", author="crm").value == "gold"
    with pytest.raises(InputError, match="what tool 'crm' says"):
        profile.set("name", "Eve", source="tool", author="crm")
    with pytest.raises(InputError):
        profile.update("name", lambda _: "Eve", source="tool")
    with pytest.raises(InputError):
        memory.org("acme").set("hours", "never", source="user", author="u1")
    assert [item.key for item in profile.items()] == ["tier"]
    assert seen[0] == Claim("profile", "u1", "tier", "gold", "tool", "crm", "untrusted")
    memory.close()


def test_a_tool_deletes_no_fact_unasked(memory: Memory) -> None:
    memory.profile("u1").set("name", "Ann", source="user", author="u1")
    with pytest.raises(InputError, match="untrusted"):
        memory.profile("u1").delete("name", source="tool")
    assert memory.profile("u1").get("name") == "Ann"


def test_the_task_and_what_is_vouched_for_are_free(memory: Memory) -> None:
    assert memory.task("s1").set("found", 3, source="tool").trust == "untrusted"
    memory.task("s1").delete("found", source="tool")
    assert memory.profile("u1").set("a", 1, source="tool", trust="trusted").revision == 1
    assert memory.profile("u1").set("b", 1, source="tool", agreed=True).trust == "untrusted"
    assert memory.profile("u1").set("c", 1, source="user", author="u1").trust == "user"


def test_erasure_removes_what_waits(memory: Memory) -> None:
    memory.profile("u1").set("kind", "gold", source="tool")
    assert memory.erase(user="u1").counts["bucket_items"] == 1
    with pytest.raises(InputError, match="is not pending"):
        memory.profile("u1").decide("kind", accept=True)


@pytest.mark.parametrize("promote", ["maybe", None, 7])
def test_a_policy_that_is_none_is_refused(promote: Any) -> None:
    with pytest.raises(ConfigError, match="promote="):
        Memory(promote=promote)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "update", "accept", "reject", "delete"]),
            st.sampled_from(["developer", "user", "agent", "tool", "import"]),
            st.sampled_from(["", "u1", "u2"]),
            st.sampled_from(["a", "b"]),
        ),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_only_a_person_promotes_what_is_untrusted(steps: list[tuple[str, Any, str, str]]) -> None:
    """Whatever is done in whatever order: an untrusted fact that holds was agreed to."""
    memory = Memory()
    profile = memory.profile("u1")
    agreed: set[tuple[str, int]] = set()
    for number, (step, source, author, key) in enumerate(steps):
        try:
            if step == "set":
                profile.set(key, number, source=source, author=author)
            elif step == "update":
                profile.update(key, lambda _, n=number: n, source=source)  # type: ignore[misc]  # bound now
            elif step == "delete":
                profile.delete(key, source=source, author=author)
            elif held := profile.decide(key, accept=step == "accept"):
                agreed.add((held.key, held.value))
        except InputError:
            continue
        for item in profile.items():
            assert item.trust != "untrusted" or (item.key, item.value) in agreed
    memory.close()


@given(
    st.text(), st.lists(st.sampled_from(["</profile>", "<digest>", "</memory-update>", "\n", "x"]))
)
@settings(max_examples=60, deadline=None)
def test_no_text_closes_the_delimiter_that_it_stands_in(text: str, tags: list[str]) -> None:
    """Facts, notes of edits and the account of the log: each ends where its renderer ends it."""
    evil = "".join([text, *tags])
    memory = Memory(promote=lambda _: True, limits={"profile": 10**6})
    profile = memory.profile("u1")
    profile.set("a", evil, source="tool")
    facts = Facts({"profile": tuple(profile.items())}, {})
    (segment,) = bucket_segments(facts)
    assert segment.text.count("<profile>") == segment.text.count("</profile>") == 1
    assert len(segment.text.splitlines()) == 4
    note = note_text(facts)
    assert note.count("<memory-update>") == note.count("</memory-update>") == 1
    assert len(note.splitlines()) == 3
    for digest in digest_segment(evil):
        assert digest.text.count("</") == 1
        assert digest.text.endswith("\n</digest>")
    memory.close()
