"""Finds what of a test set was already seen in training, and blocks the training until it is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from agentmesh.distill.clusters import REWORDED, Index, normal
from agentmesh.distill.traces import Trace
from agentmesh.errors import ConfigError

LeakKind = Literal["conversation", "exact", "customer", "reworded"]


class Row(NamedTuple):
    """What is compared of a row: its text and whose it is ("" where nobody's)."""

    id: str
    text: str
    conversation: str = ""
    customer: str = ""


@dataclass(frozen=True, slots=True)
class Leak:
    """A test row that a training row gives away."""

    kind: LeakKind
    test: str
    train: str
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Contamination:
    """The leaks between two sets, each test row named once under its plainest kind."""

    train_rows: int
    test_rows: int
    leaks: tuple[Leak, ...]

    @property
    def counts(self) -> Counter[str]:
        """How many test rows leak, by kind."""
        return Counter(leak.kind for leak in self.leaks)

    @property
    def clean(self) -> bool:
        """Whether no test row leaks."""
        return not self.leaks

    def check(self) -> None:
        """Raise a `ConfigError` that names the first leak, if there is any."""
        if self.leaks:
            first = self.leaks[0]
            told = ", ".join(f"{n} {kind}" for kind, n in sorted(self.counts.items()))
            raise ConfigError(
                f"{len(self.leaks)} of {self.test_rows} test rows leak into training ({told}); "
                f"the first: {first.test!r} is {first.train!r} ({first.kind})",
                hint="split with agentmesh.distill.split(), or drop those rows",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {**asdict(self), "counts": dict(self.counts)}


def contamination(
    train: Sequence[Row], test: Sequence[Row], *, threshold: float | None = REWORDED
) -> Contamination:
    """Return the test rows whose conversation, customer or text is in the training rows.

    Args:
        train: what is learned from.
        test: what is measured on.
        threshold: the similarity from which a text counts as reworded; None compares no texts,
            for traffic in which the same request is made again and again.
    """
    if not train or not test:
        raise ConfigError("there is nothing to compare", hint="give training and test rows")
    keyed = {
        "conversation": {row.conversation: row.id for row in train if row.conversation},
        "exact": {normal(row.text): row.id for row in train if normal(row.text)},
        "customer": {row.customer: row.id for row in train if row.customer},
    }
    if threshold is None:
        keyed["exact"] = {}
    reworded = {} if threshold is None else _reworded(train, test, threshold)
    leaks: list[Leak] = []
    for i, row in enumerate(test):
        sought: dict[LeakKind, str] = {
            "conversation": row.conversation,
            "exact": normal(row.text),
            "customer": row.customer,
        }
        leak = next(
            (
                Leak(kind, row.id, keyed[kind][key])
                for kind, key in sought.items()
                if key in keyed[kind]
            ),
            reworded.get(i),
        )
        if leak is not None:
            leaks.append(leak)
    return Contamination(len(train), len(test), tuple(leaks))


def _reworded(train: Sequence[Row], test: Sequence[Row], threshold: float) -> dict[int, Leak]:
    found: dict[int, Leak] = {}
    for pair in Index([row.text for row in train]).similar([row.text for row in test], threshold):
        leak = Leak("reworded", test[pair.row].id, train[pair.match].id, round(pair.score, 4))
        found.setdefault(pair.row, leak)
    return found


def rows_of(traces: Iterable[Trace]) -> list[Row]:
    """Return one row per conversation: all that its customer said, in order."""
    last: dict[str, Trace] = {}
    for trace in traces:
        kept = last.get(trace.conversation)
        if kept is None or len(trace.prompt) > len(kept.prompt):
            last[trace.conversation] = trace
    return [
        Row(
            id=name,
            text="\n".join(m["content"] or "" for m in trace.prompt if m["role"] == "user"),
            conversation=name,
            customer=trace.customer,
        )
        for name, trace in last.items()
    ]
