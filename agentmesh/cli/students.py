"""What the commands of distillation ask of a trainer, and show of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentmesh.cli.output import console, table
from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from agentmesh.distill.training import Trainer


def trainer_of(given: Mapping[str, Any]) -> Trainer:
    """Return the trainer that a command's options ask for; what it needs is there."""
    from agentmesh.distill.terms import STUDENT_KINDS
    from agentmesh.distill.training import Classifier, Hosted, LanguageModel

    kind, base, agreement = given["student"], given["base"], given["agreement"]
    if kind not in STUDENT_KINDS:
        raise ConfigError(f"no student {kind!r}", hint=f"one of {', '.join(STUDENT_KINDS)}")
    if kind == "classifier":
        return Classifier(agreement)
    if not base:
        raise ConfigError(f"a student {kind!r} needs a base model", hint="--base NAME")
    if kind == "hosted":
        return Hosted(base, given["base_url"], given["epochs"], agreement, given["poll"])
    from agentmesh.distill.finetune import Recipe

    recipe = Recipe(
        given["method"], epochs=given["epochs"] or 3, rate=given["rate"], batch=given["batch"]
    )
    trainer = LanguageModel(base, recipe, agreement)
    trainer.loaded()  # what is missing is told before the calls are read
    return trainer


def show_training(facts: Mapping[str, Any]) -> None:
    """Show how a student learned, what it says, and how it is served elsewhere."""
    if facts.get("losses"):
        first, last = facts["losses"]
        curve = f"  {facts['curve']}" if facts.get("curve") else ""
        console().print(f"loss {first:.3f} -> {last:.3f}{curve}", soft_wrap=True)
    if facts.get("examples"):
        made = table("Answers to calls that it did not learn", "asked", "teacher", "student")
        for row in facts["examples"]:
            made.add_row(*(_short(cell) for cell in row))
        console().print(made)
    for name, command in (facts.get("serve") or {}).items():
        console().print(f"To serve it with {name}: {command}", soft_wrap=True, markup=False)


def _short(text: str, most: int = 44) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
