"""What any database under AgentMesh's memory must hold to: a suite to inherit.

    class TestMine(Conformance):
        @pytest.fixture
        def memory(self) -> Iterator[Memory]:
            memory = Memory("mydb://...")
            yield memory
            memory.close()

Every test begins with an empty database. With `yield by_twins(memory)` the same suite runs through
the async twins.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, cast

import pytest

from agentmesh.economy.usage import Usage
from agentmesh.errors import BusyError, ConflictError, ErasedError, InputError
from agentmesh.memory.buckets import Bucket
from agentmesh.memory.history import History
from agentmesh.memory.ledger import Call, Ledger
from agentmesh.memory.memory import Memory
from agentmesh.memory.render import marks_text, prefix_text
from agentmesh.memory.turns import Core, Turn
from agentmesh.prompt import Prompt, ToolSpec

MODEL = "anthropic:claude-opus-5-5"
CORE = Core((ToolSpec("lookup", "Look an order up.", '{"type":"object"}'),), "You answer. " * 400)


def begin(memory: Memory, text: str = "hi", *, session: str = "s1", user: str = "u1") -> Turn:
    """Open a turn and its epoch, ready for a model call."""
    turn = memory.open_turn(
        session=session, user=user, agent="support", blocks=[{"type": "text", "text": text}]
    )
    turn.recall(CORE)
    turn.refresh()
    return turn


def call(turn: Turn, *, model: str = MODEL, tail: str = "", step: int = 0) -> Prompt:
    """Render a prompt and note its call in the ledger, as the graph does."""
    prompt = turn.prompt(model, tail=tail)
    turn.record(
        Call(
            user=turn.user,
            agent=turn.agent,
            epoch=turn.epoch.number,
            turn=turn.number,
            step=step,
            tier="flagship",
            model=model,
            head=prompt.entries[-1].seq,
            usage=Usage(fresh=100, output=10),
            cost=750,
            outcome="ok",
            started_at=1.0,
            latency_s=0.1,
            tail=prompt.tail,
            marks=marks_text(prompt.marks),
            prompt_sha=turn.sha(prompt),
        )
    )
    return prompt


def answer(turn: Turn, text: str = "hello") -> None:
    """Say something and finish the turn."""
    turn.add("assistant", [{"type": "text", "text": text}])
    turn.finish()


def say(
    memory: Memory,
    text: str = "hi",
    *,
    session: str = "s1",
    user: str = "u1",
    reply: str = "hello",
) -> Prompt:
    """Run a whole turn with one call and return its prompt."""
    turn = begin(memory, text, session=session, user=user)
    prompt = call(turn)
    answer(turn, reply)
    return prompt


def at_once(*work: Callable[[], object]) -> None:
    """Run functions in threads that start together; the first error is raised."""
    barrier = threading.Barrier(len(work))

    def one(function: Callable[[], object]) -> None:
        barrier.wait()
        function()

    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(one, function) for function in work]:
            done.result()


@contextmanager
def by_twins(memory: Memory) -> Iterator[Memory]:
    """Give what looks like a memory and runs every method as its async twin, on one event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield cast(Memory, _ByTwins(memory, loop))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _ByTwins:
    def __init__(self, held: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._held = held
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._held, name)
        if not inspect.ismethod(value):
            return self._shown(value)
        twin = getattr(self._held, "await_" if name == "wait" else f"a{name}", None)
        if not inspect.iscoroutinefunction(twin):
            return lambda *args, **named: self._shown(value(*args, **named))

        def awaited(*args: Any, **named: Any) -> Any:
            task = asyncio.run_coroutine_threadsafe(twin(*args, **named), self._loop)
            return self._shown(task.result())

        return awaited

    def __len__(self) -> int:
        length = asyncio.run_coroutine_threadsafe(self._held.alen(), self._loop)
        return int(length.result())

    def _shown(self, value: Any) -> Any:
        inner = isinstance(value, Bucket | History | Ledger | Turn)
        return _ByTwins(value, self._loop) if inner else value


class Conformance:
    """The behaviour that a database must show; give a `memory` fixture."""

    def test_keeps_what_was_said_in_order(self, memory: Memory) -> None:
        for i in range(3):
            say(memory, f"question {i}", reply=f"answer {i}")
        texts = [e.blocks[0]["text"] for e in memory.history("s1").entries()]
        assert texts == [f"{kind} {i}" for i in range(3) for kind in ("question", "answer")]
        assert len(memory.history("s1")) == 9  # with each turn's end
        assert memory.sessions() == memory.sessions(user="u1") == ["s1"]

    def test_keeps_any_text(self, memory: Memory) -> None:
        odd = "a\x00b \ud800 ü 漢字 \U0001f600 </task> \u2028 \\u0000"
        say(memory, odd, reply=odd)
        memory.profile("u1").set("odd", odd, source="developer", author=odd)
        expected = odd.replace("\ud800", "\ufffd")
        assert [e.blocks[0]["text"] for e in memory.history("s1").entries()] == [expected] * 2
        assert memory.profile("u1").get("odd") == expected
        assert memory.verify().entries == 3

    def test_a_prompt_only_grows(self, memory: Memory) -> None:
        texts = []
        for i in range(4):
            memory.task("s1").set("step", i)
            texts.append(prefix_text(say(memory, f"question {i}")))
        for shorter, longer in pairwise(texts):
            assert longer.startswith(shorter)
            assert len(longer) > len(shorter)

    def test_an_edit_is_shown_to_the_next_call(self, memory: Memory) -> None:
        memory.profile("u1").set("language", "German", source="user")
        before = say(memory)
        memory.profile("u1").set("language", "French", source="user")
        memory.profile("u1").delete("language")
        memory.task("s1").set("order", "#W23")
        after = say(memory, "again")
        assert "German" in "".join(segment.text for segment in before.segments)
        note = next(entry for entry in after.entries if entry.kind == "note")
        assert "profile.language: (removed)" in note.blocks[0]["text"]
        assert 'task.order: "#W23"' in note.blocks[0]["text"]
        assert "French" not in prefix_text(after)
        assert prefix_text(after).startswith(prefix_text(before))

    def test_every_call_can_be_rebuilt(self, memory: Memory) -> None:
        sent = []
        for i in range(3):
            turn = begin(memory, f"question {i}")
            sent.append(call(turn, tail=f"it is {i} o'clock"))
            answer(turn)
        turn = begin(memory, "and a new epoch")
        turn.begin_epoch(CORE, "request")
        sent.append(call(turn))
        answer(turn)
        made = memory.ledger.calls(session="s1")
        rebuilt = [memory.rebuild("s1", call) for call in made]
        assert [prefix_text(prompt) for prompt in rebuilt] == [prefix_text(p) for p in sent]
        assert [prompt.tail for prompt in rebuilt] == [p.tail for p in sent]
        assert [prompt.marks for prompt in rebuilt] == [p.marks for p in sent]
        assert memory.verify().calls == 4
        assert memory.ledger.spent("s1") == 4 * 750

    def test_one_turn_at_a_time(self, memory: Memory) -> None:
        turn = begin(memory)
        with pytest.raises(BusyError):
            memory.open_turn(session="s1", user="u1", agent="a", blocks=[], wait_s=0.05)
        answer(turn)
        assert begin(memory).number == 2

    def test_a_late_write_is_refused(self, memory: Memory) -> None:
        turn = begin(memory)
        turn.wait()
        again = memory.reopen_turn(session="s1", user="u1")
        assert again is not None
        turn.add("assistant", [{"type": "text", "text": "too late"}])
        with pytest.raises(ConflictError):
            turn.flush()
        again.recall(CORE)
        answer(again, "in time")
        assert [e.blocks[0]["text"] for e in memory.history("s1").entries()] == ["hi", "in time"]

    def test_no_turn_is_lost_among_threads(self, memory: Memory) -> None:
        at_once(*(lambda n=n: [say(memory, f"{n} {i}") for i in range(5)] for n in range(8)))
        said = [e.blocks[0]["text"] for e in memory.history("s1").entries() if e.kind == "user"]
        assert sorted(said) == sorted(f"{n} {i}" for n in range(8) for i in range(5))
        assert memory.verify("s1").calls == 40

    def test_no_edit_is_lost_among_threads(self, memory: Memory) -> None:
        bucket = memory.org("acme")
        increment = lambda: [bucket.update("n", lambda n: (n or 0) + 1) for _ in range(10)]
        at_once(*[increment] * 8)
        assert bucket.get("n") == 80
        assert [item.value for item in bucket.history("n")] == list(range(1, 81))

    def test_compare_and_set(self, memory: Memory) -> None:
        task = memory.task("s1")
        first = task.set("a", 1, expect=0)
        task.set("a", 2, expect=first.revision)
        for stale in (0, first.revision):
            with pytest.raises(ConflictError):
                task.set("a", 3, expect=stale)
        assert task.get("a") == 2

    def test_a_full_bucket_says_what_fills_it(self, memory: Memory) -> None:
        task = memory.task("s1")
        task.set("large", "x" * 8_000)
        with pytest.raises(InputError, match="full") as caught:
            task.set("more", "y" * 10_000)
        assert "large" in caught.value.hint
        assert [item.key for item in task.items()] == ["large"]

    def test_users_never_mix(self, memory: Memory) -> None:
        say(memory, session="s1", user="u1")
        memory.profile("u1").set("secret", "of u1")
        with pytest.raises(InputError, match="does not belong"):
            begin(memory, session="s1", user="u2")
        assert "of u1" not in prefix_text(say(memory, session="s2", user="u2"))
        assert memory.sessions(user="u2") == ["s2"]
        assert {call.user for call in memory.ledger.calls(user="u2")} == {"u2"}

    def test_what_was_erased_stays_erased(self, memory: Memory) -> None:
        memory.profile("u1").set("language", "German")
        turn = begin(memory)
        receipt = memory.erase(user="u1")
        assert receipt.counts["sessions"] == 1
        turn.add("assistant", [{"type": "text", "text": "too late"}])
        for late in (
            turn.finish,
            lambda: begin(memory),
            lambda: memory.profile("u1").set("language", "French"),
            lambda: memory.task("s1").set("order", 1),
        ):
            with pytest.raises(ErasedError):
                late()
        assert memory.sessions() == []
        assert memory.profile("u1").items() == []
        assert memory.ledger.calls() == []
