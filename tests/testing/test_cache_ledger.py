from __future__ import annotations

import subprocess
import sys

import pytest

from agentmesh import Agent, Tier
from agentmesh.errors import ConfigError
from agentmesh.memory import Memory
from agentmesh.testing import Answer, CacheLedger, assert_cache

POLICY = "You are the desk of a shop. " * 250


@pytest.fixture
def ledger():
    made = CacheLedger()
    yield made
    made.close()


def build(server, **more):
    tier = Tier("flagship", "anthropic:claude-opus-5-5", base_url=server.url)
    return Agent("desk", POLICY, tiers=[tier], **more)


def talk(agent, turns=5):
    for turn in range(turns):
        agent.invoke(f"Where is my order number {turn}?", user="u1", session="s1")


def test_an_agent_that_keeps_its_prefix_passes(ledger):
    agent = build(ledger.serve(lambda _request: Answer("On its way.")))
    ledger.watch(agent)
    talk(agent)
    report = ledger.assert_cache(read_share=0.6, unexplained=0, allowed={"first visit"})
    assert report.total.calls == 5


def test_too_little_read_fails_and_says_how_much(ledger):
    agent = build(ledger.serve())
    ledger.watch(agent)
    talk(agent, 1)
    with pytest.raises(AssertionError, match=r"0\.0% of the input was read .* not 50\.0%"):
        ledger.assert_cache(read_share=0.5)


def test_a_changed_prompt_fails_with_its_place(ledger, tmp_path):
    server = ledger.serve(lambda _request: Answer("On its way."))
    memory = Memory(f"sqlite:///{tmp_path}/a.db")
    talk(build(server, memory=memory), 2)
    tier = Tier("flagship", "anthropic:claude-opus-5-5", base_url=server.url)
    changed = Agent("desk", f"It is Tuesday. {POLICY}", tiers=[tier], memory=memory)
    talk(changed, 1)
    with pytest.raises(AssertionError) as caught:
        assert_cache(memory, allowed={"first visit"})
    told = str(caught.value)
    assert "the cache missed because of: instructions" in told
    assert "at core, character 0" in told
    assert "It is Tuesday" in told
    memory.close()


def test_bytes_that_change_on_the_way_are_unexplained(ledger):
    """The log only grew, and yet the vendor read nothing: something below rewrote the prompt."""
    server = ledger.serve(lambda _request: Answer("On its way."))
    agent = build(server)
    ledger.watch(agent)
    talk(agent, 1)
    server.reset()  # stands for a vendor that no longer knows the same bytes
    talk(agent, 1)
    with pytest.raises(AssertionError, match="missed without a reason"):
        ledger.assert_cache(unexplained=0)
    ledger.assert_cache(unexplained=10_000)


def test_nothing_to_look_at_is_no_success(ledger):
    with pytest.raises(ConfigError, match="no ledger is watched"):
        ledger.assert_cache()
    memory = Memory()
    with pytest.raises(AssertionError, match="no model was called"):
        assert_cache(memory)
    with pytest.raises(ConfigError, match="read_share=5 is no share"):
        assert_cache(memory, read_share=5)
    memory.close()


SUITE = """
from agentmesh import Agent, Tier

POLICY = "You are the desk of a shop. " * 250

def test_good(cache_ledger):
    server = cache_ledger.serve()
    tier = Tier("flagship", "anthropic:claude-opus-5-5", base_url=server.url)
    agent = Agent("desk", POLICY, tiers=[tier])
    cache_ledger.watch(agent)
    for text in ("Where is my order?", "And my refund?", "When does the order arrive?"):
        agent.invoke(text, user="u1", session="s1")
    cache_ledger.assert_cache(read_share={share}, unexplained=0)
"""


@pytest.mark.parametrize(("share", "status"), [(0.5, 0), (0.99, 1)])
def test_the_plugin_in_a_suite_of_its_own(tmp_path, share, status):
    suite = tmp_path / "test_suite.py"
    suite.write_text(SUITE.replace("{share}", str(share)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "agentmesh.testing.plugin", str(suite)],
        check=False,
        cwd=tmp_path,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert ("read from the cache, not 99.0%" in done.stdout) == bool(status)


def test_the_plugin_loads_no_server_before_it_is_asked_for_one():
    code = (
        "import sys, agentmesh.testing.plugin;"
        "print([m for m in ('uvicorn', 'starlette', 'sqlalchemy', 'langgraph') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
