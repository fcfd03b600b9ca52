import time

import pytest

from agentmesh.memory import Memory
from agentmesh.routers import LiveRouter, Said, Versions, said, settle, shifted
from agentmesh.routing import Router

SPAM = "You won a prize! Call 09061 701461 now"
WHO = {"by": "ann", "why": "our own campaign"}


@pytest.fixture
def memory():
    made = Memory("sqlite://", clock=time.time)
    for session, kind, text in (("a", "blocked", SPAM), ("b", "user", "Where is my order?")):
        turn = made.open_turn(
            session=session,
            user="u",
            agent="desk",
            blocks=[{"type": "text", "text": text}],
            kind=kind,
        )
        turn.finish("blocked:spam" if kind == "blocked" else "done")
    yield made
    made.close()


def test_a_message_is_let_in_and_shut_out_again_version_by_version(memory):
    router = LiveRouter(memory, clock=iter(range(0, 10_000, 31)).__next__)
    assert not router.admit(SPAM).allowed
    done = settle(memory, "a:1", "simple", **WHO)
    assert (done.version.label, done.version.state) == ("router@1", "live")
    assert done.version.events[-1]["why"] == "a:1 is simple: our own campaign"
    assert router.admit(SPAM).allowed
    assert settle(memory, "a:1", "tool", **WHO).version is None  # nothing changes for the block
    settle(memory, "a:1", "spam", by="bob", why="it was not ours")
    assert not router.admit(SPAM).allowed
    Versions(memory).rollback(by="eve", why="it was")
    assert router.admit(SPAM).allowed
    assert [(one.id, one.label) for one in said(memory) if one.label] == [("a:1", "spam")]


def test_a_confirmed_block_changes_nothing_but_is_a_label(memory):
    assert settle(memory, "a:1", "spam", **WHO).version is None
    assert Versions(memory).all() == []
    assert next(one for one in said(memory) if one.id == "a:1").label == "spam"


def message(text):
    return Said("s", 1, text, 0.0, True, {}, "simple")


def test_the_threshold_rises_only_as_far_as_the_stated_rate_asks_for():
    router = Router.auto()
    spam = router.spam
    wrong = [message(f"{SPAM} {i}") for i in range(30)]
    assert shifted(router, wrong, 10**6, 0.01).threshold == spam.threshold
    raised = shifted(router, wrong, 0, 0.01)
    scores = [router.spam_margin(one.text) for one in wrong]
    left = sum(score >= raised.threshold for score in scores)
    assert raised.threshold > spam.threshold
    assert 0 <= left < len(wrong)
    assert raised.bound <= 0.01 or not left
    assert shifted(router, [], 0, 0.01) is spam
    assert shifted(router.changed(spam=None), wrong, 0, 0.01) is None
