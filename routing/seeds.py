"""The examples that come with the package, and reading one's own in the same form."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from agentmesh.errors import ConfigError
from agentmesh.routing.steps import KINDS


class Example(NamedTuple):
    """A labelled text; `group` keeps rows of one conversation together when data is split."""

    text: str
    label: str
    group: str = ""


def seeds() -> list[Example]:
    """Return the shipped examples of all request kinds."""
    folder = resources.files(__package__).joinpath("seeds")
    rows: list[Example] = []
    for kind in KINDS:
        source = folder.joinpath(f"{kind}.jsonl").read_text(encoding="utf-8")
        rows += [Example(json.loads(line)["text"], kind) for line in source.splitlines()]
    return rows


def read_examples(path: str | Path) -> list[Example]:
    """Read JSON lines of `{"text": ..., "label": ..., "group": ...}` (`kind` for label will do)."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the examples {str(path)!r} cannot be read: {error}",
            hint='give a file of JSON lines such as {"text": "where is it?", "label": "simple"}',
        ) from error
    rows = [_example(line, f"{path}:{i}") for i, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise ConfigError(f"{str(path)!r} holds no examples", hint="one JSON object per line")
    return rows


def _example(line: str, where: str) -> Example:
    try:
        row = json.loads(line)
        text, label = row["text"], row.get("label", row.get("kind"))
        group = str(row.get("group", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where}: not an example ({error})", hint="it needs a text") from error
    if not isinstance(text, str) or not isinstance(label, str) or not label:
        raise ConfigError(f"{where}: the label is missing", hint='add "label": "simple"')
    return Example(text, label, group)
