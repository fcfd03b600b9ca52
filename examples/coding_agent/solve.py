"""A task done in a git work tree of its own; the repository is touched when the patch is accepted."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmesh.errors import ConfigError, InputError
from agentmesh.tools.git import Git
from agentmesh.tools.workspace import Workspace, plain

if TYPE_CHECKING:
    from agentmesh import Agent, Reply, Tier

TASK = "The tests fail. Find out why and repair it."
LOOK = "Look into this task: {task}\nTest command: `{command}`\nChange nothing yet."
FIX = "Fix it now, and commit.\nTest command: `{command}`"
SAMPLE_TESTS = "python3 -m unittest discover -t . -s tests"
_ACCEPTED = "agentmesh-accepted.patch"

Show = Callable[[str], None]
"""Told of each step as it happens."""

Approve = Callable[[dict[str, Any]], bool]
"""Asked before a command runs that is not confined."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task: the patch, whether the tests pass with it, and what it took."""

    task: str
    solved: bool
    patch: str
    tests: str
    answer: str
    plan: str
    steps: dict[str, int]
    refused: int
    usd: float | None
    confinement: str
    accepted: bool = False


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
        models = list(tiers) or stack.enter_context(_stand_ins())
        outcome, patch = _work(space, task, tests or guess(tree.root), models, show, approve)
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
    replies = [
        _turn(agent, LOOK.format(task=task, command=command), show, approve),
        _turn(agent, FIX.format(command=command), show, approve),
    ]
    passed, told = _tested(space, command, approve)
    patch = git.patch(base)
    calls = [call for reply in replies for call in reply.steps]
    good = [call.tier for call in calls if call.outcome == "ok"]
    costs = [call.cost for call in calls]
    usd = None if None in costs else sum(cost or 0 for cost in costs) / 1_000_000
    outcome = Outcome(
        task=task,
        solved=passed,
        patch=patch.decode("utf-8", "replace"),
        tests=told,
        answer=replies[-1].text,
        plan=str(memory.task("work").get("plan", "")),
        steps={tier.name: good.count(tier.name) for tier in tiers},
        refused=len(calls) - len(good),
        usd=usd,
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


def _turn(agent: Agent, text: str, show: Show, approve: Approve) -> Reply:
    """Run a turn to its end, showing each step and asking where a person is needed."""
    tier, replies = "", []
    for part in agent.stream(text, session="work"):
        if part.kind == "route":
            tier = part.text
        elif part.kind == "call":
            show(f"{tier:9} {part.text}({_brief(part.value['args'])})")
        elif part.kind == "retract":
            show(f"{tier:9} refused: {part.text}")
        elif part.kind == "reply":
            replies.append(part.value)
    reply: Reply = replies[-1]
    while reply.interrupts:
        reply = agent.resume(approve(reply.interrupts[0]), session="work")
    show(f"{tier:9} {reply.text}")
    return reply


def _brief(args: dict[str, Any]) -> str:
    shown = ", ".join(f"{name}={value!r}" for name, value in args.items())
    return shown if len(shown) <= 100 else shown[:97] + "..."


@contextmanager
def _stand_ins() -> Iterator[list[Tier]]:
    from agentmesh import Tier
    from agentmesh.examples.coding_agent.brains import BRAINS, FLAGSHIP, STUDENT
    from agentmesh.testing import emulator

    with emulator(BRAINS) as server:
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
        sys.stderr.write(f"Run {action['name']} with {_brief(action['args'])}? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            return False
    return True
