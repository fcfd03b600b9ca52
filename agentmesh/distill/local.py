"""A student of the first kind: it picks a label, a tool or a template, and fills in the slots.

Milliseconds on a CPU, no tokens. It answers only where it is sure enough that the teacher would
have done the same, and abstains otherwise, so that the next tier takes the step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from agentmesh import canonical
from agentmesh.distill import archive
from agentmesh.distill.ensemble import Ensemble, threshold
from agentmesh.distill.evaluate import agree
from agentmesh.distill.scene import Scene, scene_of
from agentmesh.distill.shapes import Taken, learn, make, opening_of, openings, take, usual
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
        self._greeter = Ensemble(state["greeter"]) if state["greeter"] else None
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
        lesson = Lesson.of(rows, least)
        grouped = list(groups) if groups is not None else [t.conversation for t in rows]
        texts = [scene.text() for scene in lesson.scenes]
        fitted = Ensemble.fit(
            texts, lesson.labels, pool=pool, groups=grouped, right=lesson.right, folds=folds
        )
        said = [i for i, label in enumerate(lesson.labels) if _says(label)]
        greeter = None
        sure, right = fitted.confidence.copy(), fitted.right.copy()
        if len({lesson.openings[i] for i in said}) > 1:
            greeter = Ensemble.fit(
                [texts[i] for i in said],
                [lesson.openings[i] for i in said],
                groups=[grouped[i] for i in said],
                folds=folds,
            )
            for at, i in enumerate(said):
                if _says(fitted.answers[i]):
                    sure[i] *= greeter.confidence[at]
                    right[i] &= greeter.right[at]
                    if not fits(lesson.partners, greeter.answers[at], fitted.answers[i]):
                        sure[i] = 0.0
        meant = np.array([answer != OTHER for answer in fitted.answers])
        least_sure = threshold(sure[meant], right[meant], agreement)
        open_ = meant & (sure >= least_sure)
        facts = {
            "rows": len(rows),
            "shapes": len(set(lesson.labels) - {OTHER}),
            "agreement_asked": agreement,
            "answered": float(open_.mean()),
            "agreement": float(right[open_].mean()) if open_.any() else None,
            "teachers": sorted({trace.teacher for trace in rows}),
        }
        return cls(
            {
                "model": fitted.model.state,
                "greeter": greeter.model.state if greeter else None,
                "slots": canonical.dumps(lesson.slots),
                "partners": canonical.dumps(lesson.partners),
                "threshold": least_sure,
                "facts": canonical.dumps(facts),
            }
        )

    def answer(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Guess:
        """Return the answer to a prompt, or an abstention with the reason.

        Tools that the prompt does not offer are never called; without `tools` any may be.
        """
        scene = scene_of(messages)
        text = scene.text()
        found = self._model.answer([text])
        shape, sure = found.labels[0], float(found.confidence[0])
        opening = ""
        if self._greeter is not None and _says(shape):
            greeted = self._greeter.answer([text])
            opening, sure = greeted.labels[0], sure * float(greeted.confidence[0])
            if not self._fits(opening, shape):
                return Guess(None, sure, "this opening never stood before such an answer")
        if sure < self.threshold:
            return Guess(None, sure, f"sure to {sure:.3f}, {self.threshold:.3f} is asked for")
        if shape == OTHER:
            return Guess(None, sure, "answers here are like no others")
        made = made_of(opening, shape, self._slots, scene, f"call_{len(messages)}")
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

    def _fits(self, opening: str, shape: str) -> bool:
        return fits(self._partners, opening, shape)

    @cached_property
    def _partners(self) -> dict[str, list[str]]:
        partners: dict[str, list[str]] = canonical.loads(self._state["partners"])
        return partners

    @cached_property
    def _slots(self) -> dict[str, Any]:
        slots: dict[str, Any] = canonical.loads(self._state["slots"])
        return slots


@dataclass(frozen=True)
class Lesson:
    """Traces taken apart: each one's scene, its answer's shape, and its opening, if it is a known one."""

    rows: Sequence[Trace]
    scenes: list[Scene]
    labels: list[str]
    openings: list[str]
    slots: dict[str, list[list[list[Any]]]]

    @classmethod
    def of(cls, rows: Sequence[Trace], least: int) -> Lesson:
        """Take traces apart; a shape that occurs less than `least` times is `OTHER`."""
        scenes = [scene_of(trace.prompt) for trace in rows]
        whole = [take(trace.answer, scene) for trace, scene in zip(rows, scenes, strict=True)]
        known = openings(whole, least)
        first: list[Taken | None] = []
        rest: list[Taken] = []
        for taken in whole:
            parts = opening_of(taken)
            opened = parts is not None and parts[0].shape in known
            first.append(parts[0] if parts and opened else None)
            rest.append(parts[1] if parts and opened else taken)
        shapes = usual((taken.shape for taken in rest), least)
        if not shapes:
            raise ConfigError(
                f"no answer occurs {least} times", hint="give more traces, or train another kind"
            )
        labels = [taken.shape if taken.shape in shapes else OTHER for taken in rest]
        taught = [(t, s) for t, s in zip(rest, scenes, strict=True) if t.shape in shapes]
        taught += [(t, s) for t, s in zip(first, scenes, strict=True) if t is not None]
        return cls(
            rows, scenes, labels, [t.shape if t else "" for t in first], _learn_slots(taught)
        )

    @cached_property
    def partners(self) -> dict[str, list[str]]:
        """The openings that stood before each shape."""
        seen: dict[str, set[str]] = defaultdict(set)
        for opening, label in zip(self.openings, self.labels, strict=True):
            if opening:
                seen[label].add(opening)
        return {label: sorted(found) for label, found in seen.items()}

    def right(self, i: int, label: str) -> bool:
        """Say whether a label, put in place of row i's own, had led to the same answer."""
        if label == OTHER:
            return False
        made = made_of(self.openings[i], label, self.slots, self.scenes[i])
        return made is not None and agree(self.rows[i].answer, made)


def made_of(
    opening: str, shape: str, slots: Mapping[str, Any], scene: Scene, call_id: str = "call_0"
) -> Message | None:
    """Return the answer of a shape in a scene, an opening before it if it says something."""
    made = make(shape, slots[shape], scene, call_id)
    if made is None or not opening or not _says(shape):
        return made
    first = make(opening, slots[opening], scene)
    return first and {**made, "content": f"{first['content']} {made['content']}"}


def fits(partners: Mapping[str, Sequence[str]], opening: str, shape: str) -> bool:
    """Say whether an opening may stand before a shape: others, and never this one, speak against it."""
    return not opening or shape not in partners or opening in partners[shape]


def _says(label: str) -> bool:
    return label.startswith('{"say":')


def _learn_slots(taught: Sequence[tuple[Taken, Scene]]) -> dict[str, list[list[list[Any]]]]:
    values: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    where: dict[str, list[Scene]] = defaultdict(list)
    for taken, scene in taught:
        values[taken.shape].append(taken.values)
        where[taken.shape].append(scene)
    return {shape: learn(values[shape], where[shape]) for shape in values}


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
