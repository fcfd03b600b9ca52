import pytest

from agentmesh.errors import ConfigError
from agentmesh.examples.customer_support.school import prove


def test_the_loop_closes_on_the_support_desk(tmp_path):
    told = []
    proof = prove(
        tmp_path / "school", requests=200, agreement=0.6, progress=lambda *state: told.append(state)
    )
    states = [event["to"] for event in proof.version.events]
    assert states[:3] == ["candidate", "shadow", "canary"]
    assert proof.version.facts["shadow"]["seen"] > 0
    first, again = proof.phase("flagship"), proof.phase("again")
    assert first.share() == 0
    assert [one.text for one in first.served] == [one.text for one in again.served]
    assert first.cost() > 0
    if states[3] == "live":  # it may fall as a canary already
        assert again.share() > 0
    served = [one for one in again.served if one.by_student]
    assert sum(one.cost for one in served) == 0
    page = proof.page()
    assert page.count("<svg") >= 4
    assert "http" not in page.replace("http://www.w3.org", "")
    assert told[-1][1] <= told[-1][2]
    assert set(proof.figures()) >= {"share served by the student", "held-out requests"}


def test_wrong_use_is_told(tmp_path):
    with pytest.raises(ConfigError, match="requests=3"):
        prove(tmp_path / "a", requests=3)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        prove(tmp_path, requests=60)
