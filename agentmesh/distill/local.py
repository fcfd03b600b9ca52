"""A student of the first kind: it picks a label, a tool or a template, and fills in the slots.

Milliseconds on a CPU, no tokens. It answers only where it is sure enough that the teacher would
have done the same, and abstains otherwise, so that the next tier takes the step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from agentmesh import canonical
from agentmesh.distill import archive
from agentmesh.distill.ensemble import Ensemble, threshold
from agentmesh.distill.evaluate import agree
from agentmesh.distill.scene import Scene, scene_of
from agentmesh.distill.shapes import Taken, learn, make, take, usual
from agentmesh.distill.student import Guess
from agentmesh.distill.traces import Message, Trace
from agentmesh.errors import ConfigError, CorruptError

OTHER = "other"
"""The shape of answers that are like no others: the student abstains there."""


class LocalStudent:
    """Answers as its teacher did, where it can be sure.

    Example:
        student = LocalStudent.fit(traces, agreement=0.95)
        student.answer([{"role": "user", "content": "Where is my parcel?"}])
    """

    kind: ClassVar[str] = "classifier"

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state
        self._model = Ensemble(state["model"])
        self.threshold = float(state["threshold"])

    @property
    def facts(self) -> dict[str, Any]:
        """How it was trained and what is to be expected of it, as JSON."""
        facts: dict[str, Any] = canonical.loads(self._state["facts"])
        return facts

    @classmethod
    def fit(
        cls,
        traces: Iterable[Trace],
        *,
        agreement: float = 0.95,
        pool: Sequence[str] = (),
        least: int = 3,
        folds: int = 5,
        groups: Sequence[str] | None = None,
    ) -> LocalStudent:
        """Train on a teacher's calls.

        Args:
            traces: the calls; those of one conversation never judge each other.
            agreement: with the teacher, on the steps that it answers.
            pool: customers' texts that nobody answered; they help to read others.
            least: how often a shape must occur to be learned.
            folds: of the cross-fitting.
            groups: of the traces, in place of their conversations.

        Raises:
            ConfigError: nothing to learn from, or all answers are one and the same.
        """
        import numpy as np

        rows = list(traces)
        if not rows:
            raise ConfigError("there is no positive trace to learn from", hint="distill select")
        if not 0 < agreement < 1:
            raise ConfigError(f"agreement={agreement!r}", hint="a share between 0 and 1")
        scenes = [scene_of(trace.prompt) for trace in rows]
        taken = [take(trace.answer, scene) for trace, scene in zip(rows, scenes, strict=True)]
        known = usual((t.shape for t in taken), least)
        if not known:
            raise ConfigError(
                f"no answer occurs {least} times", hint="give more traces, or train another kind"
            )
        slots = _learn_slots(taken, scenes, known)

        def right(i: int, label: str) -> bool:
            if label == OTHER:
                return False
            made = make(label, slots[label], scenes[i])
            return made is not None and agree(rows[i].answer, made)

        fitted = Ensemble.fit(
            [scene.text() for scene in scenes],
            [t.shape if t.shape in known else OTHER for t in taken],
            pool=pool,
            groups=list(groups) if groups is not None else [t.conversation for t in rows],
            right=right,
            folds=folds,
        )
        meant = np.array([answer != OTHER for answer in fitted.answers])
        least_sure = threshold(fitted.confidence[meant], fitted.right[meant], agreement)
        open_ = meant & (fitted.confidence >= least_sure)
        facts = {
            "rows": len(rows),
            "shapes": len(known),
            "agreement_asked": agreement,
            "answered": float(open_.mean()),
            "agreement": float(fitted.right[open_].mean()) if open_.any() else None,
            "teachers": sorted({trace.teacher for trace in rows}),
        }
        return cls(
            {
                "model": fitted.model.state,
                "slots": canonical.dumps(slots),
                "threshold": least_sure,
                "facts": canonical.dumps(facts),
            }
        )

    def answer(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Guess:
        """Return the answer to a prompt, or an abstention with the reason.

        Tools that the prompt does not offer are never called; without `tools` any may be.
        """
        scene = scene_of(messages)
        found = self._model.answer([scene.text()])
        shape, sure = found.labels[0], float(found.confidence[0])
        if sure < self.threshold:
            return Guess(None, sure, f"sure to {sure:.3f}, {self.threshold:.3f} is asked for")
        if shape == OTHER:
            return Guess(None, sure, "answers here are like no others")
        made = make(shape, self._slots[shape], scene, f"call_{len(messages)}")
        if made is None:
            return Guess(None, sure, "a value that the answer needs is not there")
        offered = {tool["function"]["name"] for tool in tools}
        for call in made.get("tool_calls") or ():
            if offered and call["function"]["name"] not in offered:
                return Guess(None, sure, f"there is no tool {call['function']['name']!r} any more")
        return Guess(made, sure)

    def save(self, path: Path | str) -> None:
        """Write the student to a file."""
        archive.save(path, {"kind": self.kind, **self._state})

    @classmethod
    def load(cls, path: Path | str) -> LocalStudent:
        """Return a saved student; a file that holds anything else is refused."""
        state = archive.load(path)
        if state.get("kind") != cls.kind:
            raise ConfigError(f"{str(path)!r} is a student of kind {state.get('kind')!r}")
        try:
            return cls(state)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"{str(path)!r} lacks {error}", hint="train it anew") from error

    @cached_property
    def _slots(self) -> dict[str, Any]:
        slots: dict[str, Any] = canonical.loads(self._state["slots"])
        return slots


def _learn_slots(
    taken: Sequence[Taken], scenes: Sequence[Scene], known: set[str]
) -> dict[str, list[list[list[Any]]]]:
    values: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    where: dict[str, list[Scene]] = defaultdict(list)
    for one, scene in zip(taken, scenes, strict=True):
        if one.shape in known:
            values[one.shape].append(one.values)
            where[one.shape].append(scene)
    return {shape: learn(values[shape], where[shape]) for shape in known}


def labelled(texts: Sequence[str], labels: Sequence[str], teacher: str = "rules") -> list[Trace]:
    """Return traces of a teacher that answers each text with a label."""
    return [
        Trace(
            id=str(i),
            conversation=str(i),
            customer="",
            turn=1,
            step=1,
            prompt=({"role": "user", "content": text},),
            tools=(),
            answer={"role": "assistant", "content": label},
            teacher=teacher,
        )
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
