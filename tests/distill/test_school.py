import pytest

from agentmesh.errors import ConfigError
from agentmesh.examples.customer_support.proof import Phase, Served
from agentmesh.examples.customer_support.school import prove


def test_with_few_requests_the_student_is_not_promoted_and_the_flagship_goes_on(tmp_path):
    told = []
    proof = prove(tmp_path / "school", requests=60, progress=lambda *state: told.append(state))
    assert "'desk' version 1 is not promoted: answers " in proof.refused
    assert "10% are the least" in proof.refused
    assert proof.version.state == "candidate"
    first, again = proof.phase("flagship"), proof.phase("again")
    assert [phase.name for phase in proof.phases] == ["flagship", "again"]
    assert [one.text for one in first.served] == [one.text for one in again.served]
    assert first.share() == again.share() == 0
    assert first.cost() == again.cost() > 0
    assert first.success() == again.success() > 0.9
    assert told[-1][1] <= told[-1][2]
    assert all(len(one.actions) == len(one.tiers) for one in first.served)
    assert sum(row["steps"] for row in first.actions()) == sum(len(o.tiers) for o in first.served)
    page = proof.page()
    assert page.count("<svg") >= 4
    assert "http" not in page.replace("http://www.w3.org", "")
    assert set(proof.figures()) >= {"share served by the student", "held-out requests"}


def served(*steps, solved=True, cost=0):
    actions, tiers = zip(*(step.split(":") for step in steps), strict=True)
    return Served(1, "s", "?", solved, tiers, cost, len(tiers), actions=actions)


def test_a_request_is_the_students_where_all_of_its_steps_are():
    phase = Phase(
        "again",
        (
            served("look:student", "say:student"),
            served("look:student", "say:flagship", cost=30),
            served("say:flagship", solved=False, cost=10),
            Served(2, "s", "spam", True, (), 0, 0),
        ),
    )
    assert phase.share() == pytest.approx(1 / 3)
    assert phase.success() == 3 / 4
    assert phase.cost() == 40
    assert phase.actions() == [
        {"action": "say", "steps": 3, "by the student": pytest.approx(1 / 3)},
        {"action": "look", "steps": 2, "by the student": 1.0},
    ]


def test_wrong_use_is_told(tmp_path):
    with pytest.raises(ConfigError, match="requests=3"):
        prove(tmp_path / "a", requests=3)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        prove(tmp_path, requests=60)
