import json

import pytest
from sqlalchemy import update

from agentmesh import Agent, Tier
from agentmesh.distill.feedback import give
from agentmesh.distill.log import read_traces
from agentmesh.economy.usage import Usage
from agentmesh.errors import CorruptError, InputError
from agentmesh.memory import Call, Core, View, tables
from agentmesh.memory.render import call_marks
from agentmesh.providers import CompatibleModel, to_messages, to_tools
from agentmesh.testing import Answer, emulator
from agentmesh.tools import tool


def test_every_call_is_the_request_that_a_student_server_would_be_sent(desk):
    m = desk.memory()
    m.profile("u1").set("language", "German", source="user")
    desk.ask(m, "s1", "Where is #W1?", [desk.call(), desk.text("It was shipped.")])
    desk.ask(
        m,
        "s1",
        "And #W2?",
        [desk.call('{"order": "#W2"}', id="c2"), desk.text("Too.")],
        tail="It is noon.",
    )
    model = CompatibleModel(model="s", base_url="http://127.0.0.1:1/v1")
    traces = list(read_traces(m))
    assert [t.action for t in traces] == ["order_status", "say", "order_status", "say"]
    for trace, row in zip(traces, m.ledger.calls(session="s1"), strict=True):
        prompt = m.rebuild("s1", row)
        body = model.body(to_messages(prompt, model.model_name), tools=to_tools(prompt))
        assert json.dumps([trace.prompt, trace.tools]) == json.dumps(
            [body["messages"], body["tools"]]
        )
    assert traces[2].prompt[-1] == {"role": "user", "content": "It is noon."}


def test_a_tier_that_does_not_see_all_is_learned_from_as_it_saw(desk):
    m = desk.memory()
    m.profile("u1").set("language", "German", source="user")
    scope = View(profile=False)
    turn = m.open_turn(session="s1", user="u1", agent="a", blocks=desk.text("Where is #W1?"))
    turn.recall(Core((), "You are the support desk."))
    prompt = turn.prompt("anthropic:claude-opus-5-5", scope=scope)
    made = Call(
        user="u1",
        agent="a",
        epoch=turn.epoch.number,
        turn=turn.number,
        step=1,
        tier="flagship",
        model="anthropic:claude-opus-5-5",
        head=prompt.entries[-1].seq,
        marks=call_marks(prompt.marks, scope),
        prompt_sha=turn.sha(prompt, scope),
        usage=Usage(),
        cost=1,
        outcome="ok",
        started_at=0.0,
        latency_s=0.1,
    )
    turn.record(made)
    turn.add("assistant", desk.text("It was shipped."), 1)
    turn.finish()
    (trace,) = read_traces(m)
    assert "German" not in json.dumps(trace.prompt)
    assert trace.prompt[-1] == {"role": "user", "content": "Where is #W1?"}
    (row,) = m.ledger.calls(session="s1")
    assert trace.prompt[0]["content"].startswith("You are the support desk.")
    assert row.prompt_sha == made.prompt_sha


def test_outcomes_hold_feedback_errors_steps_and_escalations(desk):
    m = desk.memory()
    desk.ask(m, "s1", "Where is it?", ["arguments", desk.call(), desk.text("Shipped.")])
    desk.ask(
        m, "s1", "Really?", [desk.call('{"order": "bad"}', id="c9"), desk.text("No.")], user="u1"
    )
    give(m, session="s1", turn=1, score=1.0, label="solved")
    give(m, session="s1", turn=1, score=0.5)
    first, second, third, fourth = read_traces(m)
    assert (first.outcome.score, first.outcome.labels) == (0.75, ("solved",))
    assert first.outcome.escalated
    assert not second.outcome.escalated
    assert first.outcome.steps == second.outcome.steps == 2
    assert (first.outcome.errors, third.outcome.errors) == (0, 1)
    assert (third.outcome.score, fourth.outcome.status) == (None, "done")
    assert (first.kind, first.customer, first.cost) == ("simple", "u1", 1_000)


def test_a_changed_log_is_noticed_and_progress_is_told(desk):
    m = desk.memory()
    for i in range(70):
        desk.ask(m, f"s{i}", f"Question {i}", [desk.text("Answer")])
    told = []
    assert len(list(read_traces(m, progress=lambda done, total: told.append((done, total))))) == 70
    assert told == [(64, 70), (70, 70)]
    entries = tables.entries
    change = update(entries).where(entries.c.kind == "user").values(body='{"blocks":[]}')
    m.database.write(lambda c: c.execute(change))
    with pytest.raises(CorruptError, match="cannot be rebuilt"):
        list(read_traces(m))
    assert len(list(read_traces(m, verify=False))) == 70


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"turn": 9, "score": 1.0}, "no turn 9"),
        ({"turn": 1, "score": 2.0}, "score=2.0"),
        ({"turn": 1}, "says nothing"),
        ({"turn": 1, "label": "x" * 65}, "too long"),
    ],
)
def test_feedback_that_fits_no_turn_is_refused(desk, given, wrong):
    m = desk.memory()
    desk.ask(m, "s1", "Hello", [desk.text("Hello")])
    with pytest.raises(InputError, match=wrong):
        give(m, session="s1", **given)


@tool
def look(order: str) -> str:
    """Look up an order."""
    return f"{order} is shipped"


@tool
def price(article: str) -> str:
    """Tell what an article costs."""
    return f"{article} costs 5"


@tool
def stock(article: str) -> str:
    """Tell whether an article is there."""
    return f"{article} is there"


def calling(request):
    """Call the tool that the user names, then tell what it said."""
    asked = [m.text for m in request.turn if not m.text.startswith("<tools-update>")][-1]
    done = request.results
    return (
        Answer(done[-1]) if done else Answer(calls=[(asked.split()[0], {asked.split()[1]: "W1"})])
    )


def test_what_tools_came_and_went_is_told_as_a_student_would_be(desk):
    m = desk.memory()
    with emulator(calling) as server:
        tier = Tier("flagship", "anthropic:claude-opus-5-5", base_url=server.url)
        agent = Agent("support", "Answer. " * 900, tools=[look, price], tiers=[tier], memory=m)
        agent.invoke("price article", session="s1")
        agent.change_tools([look, stock])
        agent.invoke("look order", session="s1")
        agent.invoke("stock article", session="s1")
    traces = list(read_traces(m))
    # The call of a tool that a student would be shown with the next epoch alone is left out.
    assert [t.action for t in traces] == ["price", "say", "look", "say", "say"]
    model = CompatibleModel(model="s", base_url="http://127.0.0.1:1/v1")
    rows = {f"s1:{row.id}": row for row in m.ledger.calls(session="s1")}
    for trace in traces:
        prompt = m.rebuild("s1", rows[trace.id])
        body = model.body(to_messages(prompt, model.model_name), tools=to_tools(prompt))
        assert json.dumps([trace.prompt, trace.tools]) == json.dumps(
            [body["messages"], body["tools"]]
        )
    assert "do not call: price" in json.dumps(traces[2].prompt)
