import threading
import time

import pytest

from agentmesh import Agent, Tier
from agentmesh.distill import LocalStudent, Register
from agentmesh.distill.local import labelled
from agentmesh.errors import ConfigError
from agentmesh.memory import Memory
from agentmesh.routing import Router, Rules
from agentmesh.testing import Answer, emulator

OPEN = ("when do you open", "opening hours please", "are you open on sunday", "do you close early")
SHIP = ("how much is shipping", "what does delivery cost", "shipping costs please", "is it free")
SAYS = {"open": "We open at 9.", "ship": "Shipping costs 4.90."}


def flagship(request):
    asked = request.user_text
    return Answer(SAYS["open"] if any(asked.startswith(t) for t in OPEN) else SAYS["ship"])


@pytest.fixture
def desk(tmp_path):
    texts = [f"{text}{end}" for text in (*OPEN, *SHIP) for end in ("", "?", " today", " thanks")]

    def register(memory, success=0.95, agreement=0.5):
        labels = [SAYS["open"] if t.startswith(OPEN) else SAYS["ship"] for t in texts]
        rows = labelled(texts, labels)
        path = tmp_path / f"{len(Register(memory).versions('desk'))}.skops"
        LocalStudent.fit(rows, agreement=agreement).save(path)
        measured = {"success": success, "baseline": 0.9, "calls": 40}
        return Register(memory).add("desk", path, measured=measured)

    with emulator(flagship) as vendor:

        def agent(memory, **extra):
            tiers = [
                Tier("student", "student:desk", extra=extra),
                Tier("flagship", "anthropic:claude-opus-5-5", vendor.url, "none"),
            ]
            auto = Router.auto()
            return Agent(
                "desk",
                "You are a desk.",
                tiers=tiers,
                memory=memory,
                router=Router(Rules(), auto.classifier),
            )

        yield agent, register


def until(memory, state):
    while Register(memory).get("desk", 1).state != state:
        Register(memory).promote("desk", 1)


def by(reply):
    return [call.tier for call in reply.steps if call.outcome == "ok"]


def test_a_student_takes_part_in_its_life_cycle_without_further_code(desk):
    agent_of, register = desk
    memory = Memory("sqlite://")
    agent = agent_of(memory, canary=0.5)
    assert by(agent.invoke("when do you open", session="s0")) == ["flagship"]  # nobody sits there
    register(memory)
    until(memory, "shadow")
    for i in range(3):
        assert by(agent.invoke("when do you open", session=f"a{i}")) == ["flagship"]
    agent.close()  # what waits in the shadow is answered and counted
    assert Register(memory).get("desk").facts["shadow"]["answered"] == 3
    assert Register(memory).get("desk").facts["shadow"]["agreed"] == 3
    until(memory, "canary")
    agent = agent_of(memory, canary=0.5)
    tiers = [by(agent.invoke("when do you open", session=f"b{i}"))[0] for i in range(24)]
    served = tiers.count("student")
    assert 4 <= served <= 20
    assert Register(memory).get("desk").runs == (served, served)
    until(memory, "live")
    reply = agent.invoke("what does delivery cost", session="c")
    assert (by(reply), reply.text, reply.cost.micro) == (["student"], SAYS["ship"], 0)
    assert reply.steps[0].decision["student"]["version"] == 1
    Register(memory).rollback("desk", why="by hand")
    assert by(agent.invoke("when do you open", session="d")) == ["flagship"]
    memory.close()


def test_a_student_that_slips_is_rolled_back_by_the_agent_itself(desk):
    agent_of, register = desk
    memory = Memory("sqlite://")
    agent = agent_of(memory, evidence="feedback")
    register(memory)
    until(memory, "live")
    for i in range(200):
        reply = agent.invoke("when do you open", session=f"s{i}")
        if by(reply) == ["flagship"]:
            break
        reply.feedback(0.0, label="the hours changed")
        reply.feedback(0.0, label="said twice, counted once")
    version = Register(memory).get("desk", 1)
    assert version.state == "retired"
    assert version.events[-1]["by"] == "watch"
    assert version.runs[0] == i
    assert i < 60
    memory.close()


def test_abstaining_is_no_failure_and_the_next_tier_answers(desk):
    agent_of, register = desk
    memory = Memory("sqlite://")
    version = register(memory)
    until(memory, "live")
    agent = agent_of(memory)
    agent._parts.tiers[0].model.seat.student(version).threshold = 1.01
    reply = agent.invoke("when do you open", session="s")
    assert by(reply) == ["flagship"]
    assert reply.steps[0].decision["student"]["abstained"]
    assert Register(memory).get("desk").runs == (0, 0.0)
    memory.close()


def test_a_damaged_student_does_not_serve_and_nothing_else_stops(desk, caplog):
    agent_of, register = desk
    memory = Memory("sqlite://")
    version = register(memory)
    until(memory, "live")
    with open(version.path, "ab") as file:
        file.write(b"x")
    assert by(agent_of(memory).invoke("when do you open", session="s")) == ["flagship"]
    assert "changed since it was registered" in caplog.text
    assert Register(memory).get("desk").state == "live"
    memory.close()


def test_the_shadow_is_budgeted_and_never_waited_for(desk):
    agent_of, register = desk
    memory = Memory("sqlite://")
    register(memory)
    until(memory, "shadow")
    agent = agent_of(memory, shadow=2)
    seat = agent._parts.tiers[0].model.seat

    class Slow:
        def answer(self, messages, tools=()):
            time.sleep(0.5)
            raise RuntimeError("a candidate may do anything")

    seat._loaded[Register(memory).get("desk").sha] = Slow()
    began = time.perf_counter()
    for i in range(5):
        agent.invoke("when do you open", session=f"s{i}")
    assert time.perf_counter() - began < 2.0
    agent.close()
    assert "agentmesh-shadow" not in [thread.name for thread in threading.enumerate()]
    assert Register(memory).get("desk").facts["shadow"] == {
        "seen": 2, "answered": 0, "agreed": 0, "failed": 2, "skipped": 3
    }  # fmt: skip
    memory.close()


def test_a_new_version_starts_from_what_earlier_ones_taught(desk):
    _, register = desk
    memory = Memory("sqlite://")
    first = register(memory, success=0.95)
    assert first.belief == pytest.approx(0.95)
    until(memory, "live")
    for _ in range(40):
        Register(memory).observe("desk", 1, 0.8)
    assert Register(memory).get("desk", 1).belief < 0.87
    second = register(memory, success=0.95)
    assert 0.85 < second.belief < 0.92  # its own measure, less what the first one disappointed
    other = Register(memory).add("other", second.path, measured={"success": 0.95, "baseline": 0.9})
    assert second.belief < other.belief < 0.95  # another student's runs count less
    memory.close()


@pytest.mark.parametrize(
    "extra", [{"canary": 0}, {"shadow": -1}, {"evidence": "stars"}, {"temperature": 1}]
)
def test_wrong_options_are_refused(extra):
    with pytest.raises(ConfigError):
        Agent("a", "You.", tiers=[Tier("student", "student:desk", extra=extra)])
    with pytest.raises(ConfigError, match="filled by an agent"):
        Tier("student", "student:desk").chat  # noqa: B018


def test_a_student_that_falls_silent_is_rolled_back_by_the_agent_itself(desk):
    agent_of, register = desk
    memory = Memory("sqlite://")
    register(memory, agreement=0.999)  # it dares nothing, though it served as a canary
    until(memory, "canary")
    for _ in range(30):
        Register(memory).heard("desk", 1, served=True)
    until(memory, "live")
    agent = agent_of(memory, evidence="feedback")
    for i in range(60):
        assert by(agent.invoke("when do you open", session=f"s{i}")) == ["flagship"]
        if Register(memory).get("desk", 1).state == "retired":
            break
    last = Register(memory).get("desk", 1).events[-1]
    told = f"serves 0 of the last {min(20, i + 1)} turns; 100% as a canary"
    assert (last["by"], last["why"]) == ("watch", told)
    memory.close()
