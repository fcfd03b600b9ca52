import pytest

from agentmesh.errors import ConfigError
from agentmesh.routing import clusters, leaks, refuse_leaks, split

TEXTS = [
    "please cancel my order number seven and refund it to the card today",
    "Please cancel my order number seven, and refund it to the card today!",
    "what are the opening hours of your shop in leeds on a sunday",
    "how do I reset the password of my account if the mail is lost",
    "a wholly different question about the weather in the mountains",
    "prove that there are infinitely many prime numbers in the integers",
]


def test_near_duplicates_and_conversations_share_a_cluster():
    found = clusters(TEXTS, ["", "", "c1", "c1", "", ""])
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert len(set(found)) == 4


@pytest.mark.parametrize("seed", range(8))
def test_a_split_never_leaks(seed):
    parts = split(TEXTS, test=0.4, seed=seed)
    assert sorted(parts.train + parts.test) == list(range(len(TEXTS)))
    assert parts.train
    assert parts.test
    assert leaks([TEXTS[i] for i in parts.train], [TEXTS[i] for i in parts.test]) == []


def test_names_what_leaks():
    found = leaks([TEXTS[0], TEXTS[2]], [TEXTS[1], TEXTS[4]])
    assert [(leak.test, leak.train) for leak in found] == [(0, 0)]
    with pytest.raises(ConfigError, match="1 of 2 test rows are in the training rows"):
        refuse_leaks([TEXTS[0]], [TEXTS[1], TEXTS[4]])
    refuse_leaks([TEXTS[0]], [TEXTS[4]])


def test_refuses_rows_that_cannot_be_split():
    with pytest.raises(ConfigError, match="copies of one text"):
        split([TEXTS[0], TEXTS[1]])
    with pytest.raises(ConfigError, match="test=2"):
        split(TEXTS, test=2)
    with pytest.raises(ConfigError, match="1 groups"):
        split(TEXTS, groups=["a"])
