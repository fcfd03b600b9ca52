"""Does an agent write the same prefix in every process? Two processes tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from agentmesh.errors import ConfigError
from agentmesh.stable import parting

APART_S = 1.1
"""Seconds between the two renderings: a clock that is read to the second has moved."""

_SCRIPT = """
import importlib, json, sys
module, _, name = sys.argv[1].partition(":")
made = getattr(importlib.import_module(module), name)
agent = made if hasattr(made, "core") else made()
said = {f"tool {tool.name}": f"{tool.description} {tool.parameters}" for tool in agent.core.tools}
print("\\n" + json.dumps({"instructions": agent.core.text, **said}))
"""


def assert_stable(agent: str, *, apart_s: float = APART_S) -> None:
    """Fail if an agent's instructions or tools differ from one process to the next.

    They are rendered twice: at two times, and under two hash seeds, which order sets differently.

    >>> assert_stable("agentmesh.examples.customer_support.desk_agent:missing")
    Traceback (most recent call last):
    agentmesh.errors.ConfigError: 'agentmesh.examples.customer_support.desk_agent:missing' ...

    Args:
        agent: `module:name` of an `Agent`, or of a function that makes one.
        apart_s: how long after the first rendering the second one begins.

    Raises:
        AssertionError: names the segment and shows what each of the two wrote.
    """
    first = _rendered(agent, seed="1")
    time.sleep(apart_s)
    second = _rendered(agent, seed="2")
    for segment in sorted({*first, *second}):
        before, after = first.get(segment, ""), second.get(segment, "")
        if before != after:
            here, there = parting(before, after)
            raise AssertionError(
                f"{segment} is not the same in every process:\n  {here!r}\n  {there!r}"
            )


def _rendered(agent: str, *, seed: str) -> dict[str, Any]:
    known = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(  # noqa: S603  # the caller's own agent
        [sys.executable, "-c", _SCRIPT, agent],
        check=False,
        env=known,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
        raise ConfigError(f"{agent!r} cannot be made: {last}", hint="'module:name' of an Agent")
    rendered: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return rendered
