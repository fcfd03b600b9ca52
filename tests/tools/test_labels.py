from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.errors import ConfigError
from agentmesh.tools import Declaration, Label, permitted
from agentmesh.tools.labels import (
    CONFIDENTIALITIES,
    INTEGRITIES,
    SIDE_EFFECTS,
    highest,
    lowest,
)

_SAFE, _USER, _WEB = Label(), Label("user"), Label("untrusted")
_SECRET, _WEB_SECRET = Label("user", "private"), Label("untrusted", "private")
_NONE, _LOCAL, _OUT = (Declaration(side_effect=effect) for effect in SIDE_EFFECTS)


@pytest.mark.parametrize(
    ("stated", "read", "verdict"),
    [
        (_NONE, [_WEB, _SECRET], "allowed"),
        (_LOCAL, [], "allowed"),
        (_LOCAL, [_WEB], "allowed"),
        (_LOCAL, [_SECRET], "allowed"),
        (_LOCAL, [_WEB, _SECRET], "ask"),
        (_LOCAL, [_WEB_SECRET], "ask"),
        (_OUT, [_SAFE, _USER], "allowed"),
        (_OUT, [_SECRET], "allowed"),
        (_OUT, [_USER, _WEB], "ask"),
        (_OUT, [_WEB, _SECRET], "ask"),
        (Declaration(side_effect="external", sends="public"), [_SECRET], "ask"),
        (Declaration(side_effect="external", sends="public"), [_SECRET, _WEB], "deny"),
        (Declaration(side_effect="external", sends="public"), [_USER], "allowed"),
        (Declaration(accepts="user"), [_WEB], "deny"),
        (Declaration(accepts="trusted"), [_USER], "deny"),
        (Declaration(accepts="user"), [_USER], "allowed"),
        (_LOCAL, [Label(tenant="a"), Label(tenant="b")], "deny"),
        (_NONE, [Label(tenant="a"), Label(tenant="b")], "allowed"),
        (Declaration(approval="always"), [], "ask"),
    ],
)
def test_the_rule_of_two(stated: Declaration, read: list[Label], verdict: str) -> None:
    permission = permitted(stated, read, {})
    assert permission.verdict == verdict
    assert bool(permission.reason) == (verdict != "allowed")


def test_a_condition_on_the_arguments_asks() -> None:
    stated = Declaration(side_effect="external", approval=lambda args: args["cents"] > 100)
    assert permitted(stated, [_USER], {"cents": 101}).verdict == "ask"
    assert permitted(stated, [_USER], {"cents": 99}).verdict == "allowed"
    assert permitted(stated, [_USER], {}).verdict == "ask"


_LABELS = st.lists(
    st.builds(Label, st.sampled_from(INTEGRITIES), st.sampled_from(CONFIDENTIALITIES)), max_size=5
)
_STATED = st.builds(
    Declaration,
    side_effect=st.sampled_from(SIDE_EFFECTS),
    accepts=st.sampled_from(INTEGRITIES),
    sends=st.sampled_from(CONFIDENTIALITIES),
)
_ORDER = ("allowed", "ask", "deny")


@given(_STATED, _LABELS, _LABELS)
def test_reading_more_never_permits_more(
    stated: Declaration, first: list[Label], more: list[Label]
) -> None:
    before = permitted(stated, first, {}).verdict
    after = permitted(stated, first + more, {}).verdict
    assert _ORDER.index(after) >= _ORDER.index(before)


@given(_STATED, _LABELS)
def test_untrusted_text_never_acts_outside_without_a_person(
    stated: Declaration, labels: list[Label]
) -> None:
    if stated.side_effect == "external" and lowest(labels) == "untrusted":
        assert permitted(stated, labels, {}).verdict != "allowed"


@given(_LABELS)
def test_a_digest_is_worth_its_worst_part(labels: list[Label]) -> None:
    assert all(INTEGRITIES.index(x.integrity) <= INTEGRITIES.index(lowest(labels)) for x in labels)
    ranks = [CONFIDENTIALITIES.index(x.confidentiality) for x in labels]
    assert CONFIDENTIALITIES.index(highest(labels)) == max(ranks, default=0)


def test_a_label_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError):
        Label("safe")  # type: ignore[arg-type]
