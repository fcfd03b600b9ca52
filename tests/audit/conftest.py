from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentmesh.audit.prompts import cache_blocks
from agentmesh.economy.billing import CacheSpace
from agentmesh.economy.prices import PriceBook
from agentmesh.economy.warmth import outline
from agentmesh.memory import Call, Core, Memory
from agentmesh.memory.render import marks_text
from agentmesh.prompt import ToolSpec

OPUS = "anthropic:claude-opus-5-5"
TOOLS = (ToolSpec("find", "Find an order. " * 40, "{}"), ToolSpec("pay", "Pay back. " * 40, "{}"))
CORE = Core(TOOLS, "You are the desk of a shop. " * 200)


class Stage:
    """A ledger whose calls are billed by the vendors' own rules, on a clock of its own."""

    def __init__(self, path: Path) -> None:
        self.now = 1_790_000_000.0
        self.url = f"sqlite:///{path}"
        self.path = path
        self.memory = Memory(self.url, clock=lambda: self.now)
        self.space = CacheSpace(clock=lambda: self.now)
        self.prices = PriceBook()
        self.cache = True
        self.tools = TOOLS

    def say(
        self,
        session: str,
        text: str = "Where is my order?",
        *,
        model: str = OPUS,
        core: Core = CORE,
        wait: float = 10.0,
        user: str = "u1",
        fold: bool = False,
        compact: bool = False,
        failed: bool = False,
        cost: bool = True,
    ) -> Call:
        """Make one turn of one call, `wait` seconds after the last."""
        self.now += wait
        blocks = [{"type": "text", "text": text}]
        turn = self.memory.open_turn(session=session, user=user, agent="desk", blocks=blocks)
        turn.recall(core)
        if fold:
            turn.begin_epoch(core, "request")
        if compact:
            base = turn.view.shown[-2].seq
            turn.begin_epoch(core, "compaction", base=base, digest="They asked three questions.")
        turn.refresh()
        prompt = turn.prompt(model, tail="Be brief.", cache=self.cache)
        lookup = self.space.cache("key", model).look_up(cache_blocks(outline(prompt, session)))
        self.space.cache("key", model).begin(lookup)
        usage = lookup.usage + type(lookup.usage)(output=40)
        call = Call(
            user=user,
            agent="desk",
            epoch=turn.epoch.number,
            turn=turn.number,
            step=0,
            tier="flagship" if model == OPUS else "standard",
            model=model,
            head=prompt.entries[-1].seq,
            tail=prompt.tail,
            marks=marks_text(prompt.marks),
            prompt_sha=turn.sha(prompt),
            usage=usage,
            cost=self.prices.cost(model, usage, self.now) if cost else None,
            outcome="check:arguments" if failed else "ok",
            started_at=self.now,
            latency_s=0.8,
        )
        turn.record(call)
        turn.add("assistant", [{"type": "text", "text": f"Here is what I found. {text}"}])
        turn.finish()
        return call


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path / "ledger.db")
    yield made
    made.memory.close()


@pytest.fixture
def busy(stage: Stage) -> Callable[[], Stage]:
    """A ledger with a cause of every kind that a session can have."""

    def fill() -> Stage:
        for turn in range(4):
            stage.say("s1", f"Question {turn} " * 30)
        stage.say("s1", wait=400.0)
        stage.memory.profile("u1").set("language", "German", source="user")
        stage.say("s1", fold=True)
        stage.say("s2", user="u2")
        stage.say("s2", user="u2", model="anthropic:claude-haiku-5-5")
        stage.say("s2", user="u2", core=Core(TOOLS[:1], f"{CORE.text} Be brief."))
        stage.say("s3", user="u3", model="openai-compatible:mystery", cost=False)
        return stage

    return fill
