"""A task done in a git work tree of its own; the repository is touched when the patch is accepted."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agentmesh.economy.usage import Usage
from agentmesh.errors import ConfigError, InputError
from agentmesh.examples.coding_agent.progress import Progress, Show, told
from agentmesh.tools.git import Git
from agentmesh.tools.workspace import Workspace, plain

if TYPE_CHECKING:
    from agentmesh import Agent, Reply, Tier
    from agentmesh.emulator import Brain
    from agentmesh.memory import Call

TASK = "The tests fail. Find out why and repair it."
LOOK = "Look into this task: {task}\nTest command: `{command}`\nChange nothing yet."
FIX = "Fix it now, and commit.\nTest command: `{command}`"
SAMPLE_TESTS = "python3 -m unittest discover -t . -s tests"
STAND_INS = "stand-ins made of rules; with a key, --flagship anthropic:NAME takes a real one"
_ACCEPTED = "agentmesh-accepted.patch"

Approve = Callable[[dict[str, Any]], bool]
"""Asked before a command runs that is not confined."""


@dataclass(frozen=True, slots=True)
class Item:
    """What one tier took: accepted steps, tokens in, those of them read from the cache, and out."""

    tier: str
    steps: int
    tokens_in: int
    cached: int
    tokens_out: int
    usd: float | None

    @classmethod
    def of(cls, tier: str, calls: Sequence[Call]) -> Item:
        """Add up a tier's calls."""
        own = [call for call in calls if call.tier == tier]
        used = sum((call.usage for call in own), Usage())
        costs = [call.cost for call in own]
        usd = None if None in costs else sum(cost or 0 for cost in costs) / 1_000_000
        good = sum(call.outcome == "ok" for call in own)
        return cls(tier, good, used.input, used.read, used.output, usd)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task: the patch, whether the tests pass with it, and what it took."""

    task: str
    solved: bool
    patch: str
    tests: str
    answer: str
    plan: str
    bill: list[Item]
    refused: int
    confinement: str
    accepted: bool = False

    @property
    def usd(self) -> float | None:
        """What all of it cost; None where a model's price is not known."""
        costs = [item.usd for item in self.bill]
        return None if None in costs else sum(cost or 0.0 for cost in costs)


def solve(
    repo: Path,
    task: str = TASK,
    *,
    tests: str = "",
    tiers: Sequence[Tier] = (),
    accept: bool = False,
    show: Show = lambda line: None,
    approve: Approve = lambda request: False,
) -> Outcome:
    """Return what the agent made of `task`; without tiers the stand-ins are the models.

    Args:
        repo: A git repository; its own files stay as they are unless `accept` is set.
        task: What is to be done, in plain words.
        tests: The command that tells whether it is done; guessed if left out.
        tiers: The models, cheapest first.
        accept: Apply the patch to the repository if the tests pass with it.
        show: Told of each step.
        approve: Asked about commands where nothing confines them.
    """
    git = Git.of(repo)
    if git is None:
        raise ConfigError(f"{str(repo)!r} is no git repository", hint="name its top folder")
    if not git.head():
        raise ConfigError(f"{str(repo)!r} has no commit yet", hint="commit its files first")
    if not task.strip():
        raise ConfigError("the task is empty", hint="say what shall be done")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agentmesh-")))
        tree = git.worktree(folder / repo.resolve().name)
        stack.callback(git.forget, tree.root)
        space = Workspace(tree.root)
        stack.callback(space.close)
        command = tests or guess(tree.root)
        names = ", ".join(f"{tier.name} {tier.model}" for tier in tiers)
        show(
            f"task    {task}\nin      {repo} (in a work tree; its own files stay as they are)\n"
            f"tests   {command}\nmodels  {names or STAND_INS}\n"
        )
        models = list(tiers) or stack.enter_context(stand_ins())
        outcome, patch = _work(space, task, command, models, show, approve)
    if not (accept and outcome.solved and patch):
        return outcome
    git.apply(patch)
    (git.git_dir / _ACCEPTED).write_bytes(patch)
    return _accepted(outcome)


def undo(repo: Path) -> str:
    """Take back the patch that was accepted last, and say which files that were."""
    git = Git.of(repo)
    kept = git.git_dir / _ACCEPTED if git else None
    if git is None or kept is None or not kept.exists():
        raise InputError("no patch was accepted here", hint="accept one with --accept first")
    patch = kept.read_bytes()
    git.apply(patch, back=True)
    kept.unlink()
    names = [
        row[6:] for row in patch.decode("utf-8", "replace").splitlines() if row[:6] == "+++ b/"
    ]
    return ", ".join(names)


@contextmanager
def sample() -> Iterator[Path]:
    """Give a fresh copy of the small broken repository that is shipped with the example."""
    with tempfile.TemporaryDirectory(prefix="agentmesh-") as folder:
        target = Path(folder) / "shop"
        with as_file(files("agentmesh.examples.coding_agent") / "data" / "repo") as source:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        Git.create(target)
        yield target


def guess(root: Path) -> str:
    """Return the command that most likely runs the tests of the repository at `root`."""
    told = [root / name for name in ("pytest.ini", "conftest.py", "tests/conftest.py")]
    settings = [root / name for name in ("pyproject.toml", "setup.cfg", "tox.ini")]
    uses_pytest = any(path.is_file() for path in told) or any(
        "pytest" in path.read_text("utf-8", "replace") for path in settings if path.is_file()
    )
    if uses_pytest:
        return "python3 -m pytest -q -p no:cacheprovider"
    where = "-t . -s tests" if (root / "tests" / "__init__.py").is_file() else ""
    return f"python3 -m unittest discover {where}".strip()


def _work(
    space: Workspace, task: str, command: str, tiers: Sequence[Tier], show: Show, approve: Approve
) -> tuple[Outcome, bytes]:
    from agentmesh.examples.coding_agent.coder import coding_agent
    from agentmesh.memory import Memory

    git = _git_of(space)
    base = git.head()
    memory = Memory("sqlite://")
    goal = memory.task("work")
    goal.set("goal", task, source="user")
    goal.set("tests", command, source="developer")
    agent = coding_agent(space, tiers, memory)
    progress = Progress(show)
    replies = [
        _turn(agent, LOOK.format(task=task, command=command), progress, approve),
        _turn(agent, FIX.format(command=command), progress, approve),
    ]
    passed, told = _tested(space, command, approve)
    patch = git.patch(base)
    calls = [call for reply in replies for call in reply.steps]
    outcome = Outcome(
        task=task,
        solved=passed,
        patch=patch.decode("utf-8", "replace"),
        tests=told,
        answer=replies[-1].text,
        plan=str(memory.task("work").get("plan", "")),
        bill=[Item.of(tier.name, calls) for tier in tiers],
        refused=sum(call.outcome != "ok" for call in calls),
        confinement=space.sandbox.confinement.kind,
    )
    memory.close()
    return outcome, patch


def _tested(space: Workspace, command: str, approve: Approve) -> tuple[bool, str]:
    """Run the tests once more, by ourselves; return whether they pass, and their last line."""
    request = {"action_requests": [{"name": "run_command", "args": {"command": command}}]}
    if space.sandbox.confinement.kind != "bubblewrap" and not approve(request):
        return False, "not run: nothing confines commands here, and nobody approved them"
    ended = space.run(command)
    lines = plain(ended.text).strip().splitlines() or [ended.ended or "no output"]
    return ended.status == 0, lines[-1]


def _git_of(space: Workspace) -> Git:
    if space.git is None:
        raise ConfigError(f"{str(space.root)!r} is no work tree", hint="name a git repository")
    return space.git


def _turn(agent: Agent, text: str, progress: Progress, approve: Approve) -> Reply:
    """Run a turn to its end, showing each step and asking where a person is needed."""
    replies: list[Reply] = []
    for part in agent.stream(text, session="work"):
        progress.part(part)
        if part.kind == "reply":
            replies.append(part.value)
    reply = replies[-1]
    while reply.interrupts:
        reply = agent.resume(approve(reply.interrupts[0]), session="work")
    progress.answer(reply.text)
    return reply


@contextmanager
def stand_ins(brains: Mapping[str, Brain] = MappingProxyType({})) -> Iterator[list[Tier]]:
    """Give tiers of stand-ins behind the emulator; `brains` replaces some, by their models."""
    from agentmesh import Tier
    from agentmesh.examples.coding_agent.brains import BRAINS, FLAGSHIP, STUDENT
    from agentmesh.testing import emulator

    with emulator({**BRAINS, **brains}) as server:
        yield [
            Tier(name, f"anthropic:{model}", base_url=server.url, api_key="emulator")
            for name, model in (("student", STUDENT), ("flagship", FLAGSHIP))
        ]


def _accepted(outcome: Outcome) -> Outcome:
    from dataclasses import replace

    return replace(outcome, accepted=True)


def ask(request: dict[str, Any]) -> bool:
    """Ask the person at the terminal about calls that need approval; nobody there means no."""
    if not sys.stdin.isatty():
        return False
    for action in request["action_requests"]:
        sys.stderr.write(f"Approve: {told(action['name'], action['args'])} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            return False
    return True
