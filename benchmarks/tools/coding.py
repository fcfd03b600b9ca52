"""A coding session of 150 steps from recorded SWE-bench runs: its input bill, ours and LangChain's.

    python -m benchmarks.tools coding [--data ../shared/data/routing] [--steps 150] [--json]

An engineer gives one issue after another in one session; the model's words and commands and the
shell's output are the recorded ones, and the emulator bills every request. LangChain's agent has
its own middleware for the shell, context editing and prompt caching. The stand-in checks that the
newest result has reached it; it plays a record, so that what a digest leaves out is not missed
here, in either agent (ours can read all of it again with `recall`).
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from agentmesh import Agent, Tier
from agentmesh.economy.prices import PriceBook
from agentmesh.economy.usage import Usage
from agentmesh.emulator import Bill
from agentmesh.errors import InputError
from agentmesh.memory import Memory
from agentmesh.memory.compaction import Compaction
from agentmesh.testing import Answer, Request, emulator
from agentmesh.tools import tool
from agentmesh.tools.handles import Handles
from benchmarks.tools.figure import Figure

MODEL = "claude-opus-5-5"
DATA = Path("../shared/data/routing")
"""Where the recorded steps are, unless another folder is named."""

PART = "coding"
EDITING = "LangChain: shell, context editing, caching"
STEPS = 150
TARGET = 0.5
STEP_S = 8.0
PAUSE_S = 60.0
DIGEST_CHARS = 2_400
CLOSING = "The change is made, and the tests that I ran pass."
INSTRUCTIONS = (
    "You are a helpful assistant that can interact with a computer shell to solve programming"
    " tasks."
)
PACKAGES = ("langchain", "langchain_anthropic")

_SHELL = """\
import json, sys
known, lines = json.load(open(sys.argv[1])), []
for line in sys.stdin:
    if line.startswith("printf '__LC_SHELL_DONE__"):
        found = known.get("".join(lines).rstrip("\\n"))
        print(found.pop(0) if found else "this command was not recorded")
        print(line.split("'")[1].split(" ")[0], 0, flush=True)
        lines = []
    else:
        lines.append(line)
"""
"""What LangChain's shell middleware talks to instead of bash: it knows the recorded commands."""


class Step(NamedTuple):
    """What the model said and ran, and what the shell answered to each command."""

    text: str
    commands: tuple[str, ...]
    results: tuple[str, ...]


class Task(NamedTuple):
    """An issue as the engineer gives it, and the steps it took."""

    text: str
    steps: tuple[Step, ...]


class Run(NamedTuple):
    """What a session cost: requests, input tokens, the share read, micro-dollars of the input."""

    name: str
    calls: int
    tokens: int
    read: float
    input_micro: int
    output_micro: int
    detail: str = ""


@dataclass
class Stand:
    """The model: says the recorded words, in order, and passes the time."""

    tasks: list[Task]
    now: float = 1_800_000_000.0
    digests: int = 0
    said: deque[tuple[Step | None, str]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        for task in self.tasks:
            newest = task.text
            for step in task.steps:
                self.said.append((step, newest))
                newest = step.results[-1]
            self.said.append((None, newest))

    def clock(self) -> float:
        """Return the time in seconds."""
        return self.now

    def __call__(self, request: Request) -> Answer:
        """Answer a request: a digest where one is asked for, else the next recorded words."""
        self.now += STEP_S
        if "about to be shortened" in request.user_text:
            self.digests += 1
            return Answer(("The engineer works through issues. " * 100)[:DIGEST_CHARS])
        step, newest = self.said.popleft()
        if newest.strip()[:60] not in "\n".join(m.text for m in request.messages[-8:]):
            raise RuntimeError(f"the newest words never arrived: {newest[:60]!r}")
        if step is None:
            return Answer(CLOSING)
        return Answer(step.text, [("shell", {"command": command}) for command in step.commands])


def tasks(folder: Path, steps: int) -> list[Task]:
    """Return recorded issues with so many model calls in all, each one's last words included."""
    longest: dict[str, list[dict[str, Any]]] = {}
    with (folder / "agent_steps.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            name, messages = row["instance_id"], row["messages"]
            if row["benchmark"] == "swebench" and len(messages) > len(longest.get(name, ())):
                longest[name] = messages
    if not longest:
        raise InputError(f"{str(folder)!r} has no swebench steps", hint="name the routing folder")
    found: list[Task] = []
    while steps > 1:
        for name in sorted(longest):
            whole = _task(longest[name])
            task = whole._replace(steps=whole.steps[: steps - 1])
            found.append(task)
            steps -= len(task.steps) + 1
            if steps < 2:
                break
    return found


def _task(messages: list[dict[str, Any]]) -> Task:
    results = {m["tool_call_id"]: m["content"] for m in messages if m["role"] == "tool"}
    steps = []
    for message in messages:
        calls = message.get("tool_calls") or () if message["role"] == "assistant" else ()
        known = [call for call in calls if call["id"] in results]
        commands = [json.loads(call["function"]["arguments"]).get("command") for call in known]
        if commands and all(commands):
            said = (message["content"] or "").strip()
            heard = tuple(results[call["id"]] for call in known)
            steps.append(Step(said, tuple(commands), heard))
    (text,) = [m["content"] for m in messages if m["role"] == "user"][:1]
    return Task(text, tuple(steps))


def outputs(given: list[Task]) -> dict[str, list[str]]:
    """Return what the shell answers to each command, in order."""
    known: dict[str, list[str]] = defaultdict(list)
    for task in given:
        for step in task.steps:
            for command, result in zip(step.commands, step.results, strict=True):
                known[command.rstrip("\n")].append(result)
    return known


def ours(name: str, given: list[Task], compaction: Compaction | None) -> Run:
    """Run the session on an agent of ours."""
    stand, known, handles = Stand(given), outputs(given), Handles()

    @tool(side_effect="local")
    def shell(command: str) -> str:
        """Run a shell command in the workspace and return its output and exit status.

        Args:
            command: The command, as for sh -c.
        """
        return handles.short(known[command.rstrip("\n")].pop(0))

    with emulator(stand, clock=stand.clock) as server:
        agent = Agent(
            "coder",
            INSTRUCTIONS,
            tiers=[Tier("only", f"anthropic:{MODEL}", base_url=server.url)],
            tools=[shell],
            memory=Memory(clock=stand.clock),
            compaction=compaction,
            max_input_chars=100_000,
        )
        _through(stand, lambda task: agent.invoke(task.text, user="engineer", session="s"))
        agent.memory.verify()
        return _summed(name, server.bills, f"{stand.digests} digests")


def langchain(name: str, given: list[Task], trigger: int | None) -> Run:
    """Run the session on LangChain's agent with its own middleware.

    From `trigger` tokens on it clears old results, of which it keeps the newest three.
    """
    from langchain.agents import create_agent
    from langchain.agents.middleware import ContextEditingMiddleware, ShellToolMiddleware
    from langchain.agents.middleware.context_editing import ClearToolUsesEdit
    from langchain_anthropic import ChatAnthropic
    from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
    from langgraph.checkpoint.memory import InMemorySaver

    stand = Stand(given)
    with emulator(stand, clock=stand.clock) as server, tempfile.TemporaryDirectory() as folder:
        shell, known = Path(folder) / "shell.py", Path(folder) / "known.json"
        shell.write_text(_SHELL, encoding="utf-8")
        model: Any = ChatAnthropic(
            model_name=MODEL, base_url=server.url, api_key="none", max_tokens=4096, max_retries=0
        )
        middleware: list[Any] = [
            ShellToolMiddleware(folder, shell_command=[sys.executable, str(shell), str(known)]),
            *(
                [ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=trigger)])]
                if trigger
                else ()
            ),
            AnthropicPromptCachingMiddleware(),
        ]
        agent: Any = create_agent(
            model,
            [],
            system_prompt=INSTRUCTIONS,
            middleware=middleware,
            checkpointer=InMemorySaver(),
        )
        config = {"configurable": {"thread_id": "s"}, "recursion_limit": 200}

        def ask(task: Task) -> None:
            known.write_text(json.dumps(outputs([task])), encoding="utf-8")
            agent.invoke({"messages": [{"role": "user", "content": task.text}]}, config)

        _through(stand, ask)
        return _summed(name, server.bills)


def _through(stand: Stand, ask: Callable[[Task], object]) -> None:
    for task in stand.tasks:
        ask(task)
        stand.now += PAUSE_S
    if stand.said:
        raise RuntimeError(f"{len(stand.said)} recorded steps were not played")


def _summed(name: str, bills: list[Bill], detail: str = "") -> Run:
    """Return what the vendor charged; an error or an unknown price ends the benchmark."""
    if bad := [bill for bill in bills if bill.status != 200 or bill.cost_micro is None]:
        raise RuntimeError(f"{name}: {len(bad)} requests failed, the first with {bad[0]}")
    book = PriceBook()
    spoken = [
        book.cost(f"anthropic:{MODEL}", Usage(output=bill.usage.output)) or 0 for bill in bills
    ]
    tokens = sum(bill.usage.input for bill in bills)
    whole = sum(bill.cost_micro or 0 for bill in bills)
    read = sum(bill.usage.read for bill in bills) / tokens
    return Run(name, len(bills), tokens, read, whole - sum(spoken), sum(spoken), detail)


def runs(given: list[Task]) -> Iterator[Run]:
    """Yield the sessions, ours first."""
    yield ours("ours", given, Compaction())
    yield ours("ours, never compacting", given, None)
    if not missing():
        yield langchain(EDITING, given, 100_000)
        yield langchain("LangChain: shell, caching, no editing", given, None)


def missing() -> list[str]:
    """Return the peer's packages that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def measure(data: Path, steps: int) -> dict[str, Any]:
    """Return what the session costs each agent, and ours over each other one."""
    given = tasks(data, steps)
    found = list(runs(given))
    return {
        "steps": steps,
        "issues": len(given),
        "runs": [run._asdict() for run in found],
        "ours_over": {run.name: found[0].input_micro / run.input_micro for run in found[1:]},
        "target": TARGET,
        "missing": missing(),
    }


def figures(measured: dict[str, Any]) -> Iterator[Figure]:
    """Return our input bill over each other agent's; the target is for LangChain with editing."""
    for name, ratio in measured["ours_over"].items():
        target = measured["target"] if name == EDITING else None
        yield Figure(PART, f"input bill over {name}", ratio, target)


def lines(measured: dict[str, Any]) -> list[str]:
    """Return the figures as a table."""
    steps, issues = measured["steps"], measured["issues"]
    rows = [
        f"a coding session, {steps} recorded steps, {issues} issues, {MODEL} as the emulator bills it",
        f"  {'agent':44} {'calls':>6} {'input':>8} {'read':>7} {'input bill':>11}",
    ]
    rows += [
        f"  {run['name']:44} {run['calls']:6} {run['tokens'] / 1e6:7.2f}M {run['read']:7.1%}"
        f" ${run['input_micro'] / 1e6:10.3f}  {run['detail']}"
        for run in measured["runs"]
    ]
    if measured["missing"]:
        rows.append("  without its packages: pip install langchain langchain-anthropic")
    return rows
