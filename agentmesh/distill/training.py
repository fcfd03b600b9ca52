"""Trains a student of any kind for the loop: what it learns from, where it is saved, what is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from agentmesh.distill.selection import Choice, to_examples
from agentmesh.distill.terms import Ruling, StudentKind
from agentmesh.errors import ConfigError, missing_extra

if TYPE_CHECKING:
    from agentmesh.distill.calibrate import Gated
    from agentmesh.distill.finetune import Recipe, Trained
    from agentmesh.distill.formats import Example
    from agentmesh.distill.student import Student
    from agentmesh.distill.traces import Trace

Stage = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much of it."""

TUNED = 0.1
"""The share of conversations on which the threshold of a language model is set."""

SHOWN = 5
"""How many answers of a new student are shown beside its teacher's."""


class Taught(NamedTuple):
    """A trained student, where it is saved, and what is known of its training."""

    student: Student
    path: Path
    facts: dict[str, Any]


class Trainer(Protocol):
    """Trains students of one kind."""

    @property
    def licence(self) -> StudentKind:
        """What the teachers' terms call the student."""
        ...

    @property
    def tuned(self) -> float:
        """The share of conversations that its threshold is set on."""
        ...

    def fit(
        self,
        learned: Sequence[Trace],
        tuned: Sequence[Trace],
        stem: Path,
        terms: Ruling,
        told: Stage,
    ) -> Taught:
        """Train on calls, set the threshold on others, and save at a path that begins with `stem`."""
        ...


@dataclass(frozen=True, slots=True)
class Classifier:
    """Trains students of the first kind: labels, tool choices and templates, on this processor."""

    agreement: float = 0.95
    licence: StudentKind = field(default="classifier", init=False)
    tuned: float = field(default=0.0, init=False)

    def fit(
        self,
        learned: Sequence[Trace],
        tuned: Sequence[Trace],
        stem: Path,
        terms: Ruling,
        told: Stage,
    ) -> Taught:
        """Train a classifier; it sets its own threshold by cross-fitting."""
        from agentmesh.distill.local import LocalStudent

        told("training", 0, 1)
        student = LocalStudent.fit(learned, agreement=self.agreement)
        path = stem.with_name(f"{stem.name}.skops")
        student.save(path)
        return Taught(student, path, dict(student.facts))


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """Trains students of the second kind: a causal language model that runs in this process.

    Args:
        base: the model's name or folder.
        recipe: how it is trained.
        agreement: with the teacher, where the student answers.
        max_tokens: of one answer.
    """

    base: str
    recipe: Recipe
    agreement: float = 0.95
    max_tokens: int = 512
    licence: StudentKind = field(default="language-model", init=False)
    tuned: float = field(default=TUNED, init=False)

    def fit(
        self,
        learned: Sequence[Trace],
        tuned: Sequence[Trace],
        stem: Path,
        terms: Ruling,
        told: Stage,
    ) -> Taught:
        """Train the model, show what it says of calls that it did not learn, and set its threshold."""
        from agentmesh.distill import finetune
        from agentmesh.distill.language import LanguageStudent

        _enough(tuned, self.agreement)
        model, tokenizer = self.loaded()
        stem.parent.mkdir(parents=True, exist_ok=True)
        made = finetune.train(
            model,
            tokenizer,
            examples_of(learned),
            stem,
            recipe=self.recipe,
            terms=terms,
            base=self.base,
            progress=lambda step, steps, loss: told(f"training, loss {loss:.3f}", step, steps),
        )
        student = LanguageStudent(made.model, tokenizer, made.path, max_tokens=self.max_tokens)
        told_of = _finished(student, tuned, self.agreement, told)
        student.save(made.path)
        return Taught(student, made.path, {**self._facts(made), **told_of})

    def loaded(self) -> tuple[Any, Any]:
        """Return the base model and its tokenizer; ConfigError where they are not to be had."""
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
            from trl import SFTTrainer  # noqa: F401  # said before the calls are read
        except ImportError as error:
            raise missing_extra("finetune", "training a language model") from error
        try:
            model = AutoModelForCausalLM.from_pretrained(self.base)
            return model, AutoTokenizer.from_pretrained(self.base)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the base model {self.base!r} cannot be loaded",
                hint="a folder with model and tokenizer, or a name that Transformers finds",
            ) from error

    def _facts(self, made: Trained) -> dict[str, Any]:
        return {
            "kind": "language-model",
            "base": self.base,
            "recipe": asdict(self.recipe),
            "seconds": made.seconds,
            "losses": [made.losses[0], made.losses[-1]],
            "curve": made.curve,
            "serve": made.serve,
        }


@dataclass(frozen=True, slots=True)
class Hosted:
    """Trains students of the third kind: at an endpoint that fine-tunes its own models.

    Args:
        base: the model's name there.
        base_url: an OpenAI-compatible endpoint; OpenAI's own if left out.
        epochs: passes over the data; the endpoint's choice if left out.
        agreement: with the teacher, where the student answers.
        poll_s: how often the job is looked at.
    """

    base: str
    base_url: str | None = None
    epochs: int | None = None
    agreement: float = 0.95
    poll_s: float = 20.0
    tuned: float = field(default=TUNED, init=False)

    @property
    def licence(self) -> StudentKind:
        """At another host than OpenAI, what is trained is any language model."""
        host = urlsplit(self.base_url or "https://api.openai.com").hostname or ""
        return "hosted" if f".{host}".endswith(".openai.com") else "language-model"

    def fit(
        self,
        learned: Sequence[Trace],
        tuned: Sequence[Trace],
        stem: Path,
        terms: Ruling,
        told: Stage,
    ) -> Taught:
        """Fine-tune at the endpoint, going on with a job that was begun, and set the threshold."""
        from agentmesh.distill.hosted import tune

        _enough(tuned, self.agreement)
        losses: list[float] = []

        def progress(status: str, loss: float | None) -> None:
            losses.extend([] if loss is None else [loss])
            told(f"endpoint: {status}" + (f", loss {loss:.3f}" if loss is not None else ""), 0, 1)

        stem.parent.mkdir(parents=True, exist_ok=True)
        path = stem.with_name(f"{stem.name}.json")
        student = tune(
            examples_of(learned),
            path,
            model=self.base,
            terms=terms,
            base_url=self.base_url,
            epochs=self.epochs,
            progress=progress,
            poll_s=self.poll_s,
        )
        told_of = _finished(student, tuned, self.agreement, told)
        student.save(path)
        facts = {
            "kind": "hosted",
            "base": self.base,
            "base_url": self.base_url,
            "model": student.model,
            "losses": [losses[0], losses[-1]] if losses else [],
        }
        return Taught(student, path, {**facts, **told_of})


def _enough(tuned: Sequence[Trace], agreement: float) -> None:
    """Refuse to train what could never be sure enough to answer, before it costs anything."""
    needed = round(1 / (1 - agreement)) if 0 < agreement < 1 else 0
    if not needed or len(tuned) < needed:
        raise ConfigError(
            f"{len(tuned)} calls to set the threshold on, {needed} are needed for an agreement"
            f" of {agreement:g}",
            hint="give more conversations, or a lower agreement between 0 and 1",
        )


def _finished(
    student: Gated, tuned: Sequence[Trace], agreement: float, told: Stage
) -> dict[str, Any]:
    """Set a student's threshold; return it, with what it says of calls that it did not learn."""
    from agentmesh.distill.calibrate import calibrate

    shown = samples(student, tuned, told)  # before: whatever its threshold
    calibrate(student, tuned, agreement=agreement)
    return {"threshold": student.threshold, "examples": [list(sample) for sample in shown]}


class Sample(NamedTuple):
    """What was asked, what the teacher said, and what the student says."""

    asked: str
    taught: str
    said: str


def samples(student: Student, traces: Sequence[Trace], told: Stage) -> list[Sample]:
    """Return some of a student's answers beside its teacher's, whatever its threshold."""
    told("asking the student", 0, 1)
    step = max(1, len(traces) // SHOWN)
    shown = []
    for trace in traces[::step][:SHOWN]:
        guess = student.answer(trace.prompt, trace.tools)
        said = one_line(guess.answer) if guess.answer else f"({guess.reason})"
        shown.append(Sample(trace.asked, one_line(trace.answer), said))
    return shown


def one_line(answer: dict[str, Any]) -> str:
    """Return an answer in one line."""
    calls = answer.get("tool_calls") or ()
    done = [f"{c['function']['name']}({c['function']['arguments']})" for c in calls]
    return " ".join([str(answer.get("content") or ""), *done]).strip()


def examples_of(traces: Sequence[Trace]) -> Iterator[Example]:
    """Return the examples of calls that are all learned from."""
    return to_examples(Choice(trace, True, "") for trace in traces)
