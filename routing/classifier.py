"""Stage 2: a calibrated logistic regression over words, characters and structure.

scikit-learn fits it; what is kept and asked are plain arrays, so a decision takes well under a
millisecond, a stored model holds no code, and every probability can be explained by its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.errors import ConfigError
from agentmesh.routing.features import GRAMS, SURFACE, readable, surface

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

STATE_VERSION = 1
Facts = Mapping[str, float]
"""Further features of a row by name, each within 0 and 1."""


class Weight(NamedTuple):
    """One feature's part in a decision: its weight times its value, in log-odds."""

    feature: str
    weight: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a classifier is made: n-gram ranges, vocabulary bounds, inverse regularisation `c`.

    Without `structure` only words and characters count. `fold` reads words without their
    endings and numbers by their length; `pairs` adds words that stand up to so far apart, in any
    order: both help where labels are many, or numbers differ from text to text. With `margin`
    the lines are support vector machines': they look at what is hard to tell apart alone.
    """

    words: tuple[int, int] = (1, 2)
    chars: tuple[int, int] = (3, 4)
    max_features: int = 60_000
    min_df: int = 1
    c: float = 10.0
    balanced: bool = False
    folds: int = 5
    tol: float = 0.01
    structure: bool = True
    fold: bool = False
    pairs: int = 0
    margin: bool = False

    def __post_init__(self) -> None:
        if not self.c > 0:
            raise ConfigError(f"c={self.c!r}", hint="the inverse regularisation is above 0")
        if self.pairs < 0:
            raise ConfigError(f"pairs={self.pairs!r}", hint="a distance in words, 0 for none")
        if self.folds < 2:
            raise ConfigError(f"folds={self.folds!r}", hint="calibration needs 2 folds or more")

    @property
    def grams(self) -> dict[str, tuple[int, int]]:
        """The ways in which texts are cut, each with its shortest and longest piece."""
        words, chars = ("stems", "shapes") if self.fold else ("words", "chars")
        cuts = {words: self.words, chars: self.chars}
        return {**cuts, "pairs": (1, self.pairs)} if self.pairs else cuts


KIND_RECIPE = Recipe(c=30, balanced=True, min_df=2, tol=0.1)
"""For request kinds: shipped examples are uneven in number, and traffic is uneven otherwise."""


class TextClassifier:
    """Probabilities of labels for a text.

    Example:
        model = TextClassifier.fit(["where is my order", "prove it"], ["simple", "reasoning"])
        model.probabilities(["where is it"])[0]
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self.labels: tuple[str, ...] = tuple(state["labels"])
        self._vocabularies = [Vocabulary(**part) for part in state["vocabularies"]]
        self._blocks: list[Floats] = state["blocks"]
        self._intercept: Floats = state["intercept"]
        self._temperature = float(state["temperature"])
        self.facts: tuple[str, ...] = tuple(state["facts"])

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        recipe: Recipe | None = None,
        groups: Sequence[str] | None = None,
        facts: Sequence[Facts] | None = None,
    ) -> TextClassifier:
        """Train and calibrate on `texts`; rows of one group never calibrate each other.

        `facts` are further features by name, each within 0 and 1, the same names in every row.
        """
        return cls.cross_fit(texts, labels, recipe=recipe, groups=groups, facts=facts).model

    @classmethod
    def cross_fit(
        cls,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        recipe: Recipe | None = None,
        groups: Sequence[str] | None = None,
        facts: Sequence[Facts] | None = None,
        held: tuple[Sequence[str], Sequence[str]] | None = None,
    ) -> Fitted:
        """Do as `fit`, and return the scores of rows by models that had not seen them, too.

        With `held` (texts and labels kept out of training) it calibrates on those instead, and
        the scores are theirs; one fit is then enough.
        """
        import numpy as np

        recipe = recipe or Recipe()
        check_rows(texts, labels)
        if held is not None and (facts or not set(held[1]) <= set(labels)):
            raise ConfigError(
                "held rows have labels that training lacks, or facts", hint="use folds"
            )
        names = sorted(set(labels))
        fact_names = tuple(facts[0]) if facts else ()
        vocabularies, design = fit_design(texts, recipe, _fact_rows(facts, fact_names, len(texts)))
        target = np.array([names.index(label) for label in labels])
        lines = fit_lines(design, target, recipe)
        state = {
            "version": STATE_VERSION,
            "labels": names,
            "vocabularies": [vocabulary.state() for vocabulary in vocabularies],
            "blocks": split_blocks(lines.weights, [len(v.idf) for v in vocabularies]),
            "intercept": lines.intercept,
            "temperature": 1.0,
            "facts": list(fact_names),
        }
        if held is None:
            logits = _out_of_fold(design, target, recipe, groups)
        else:
            logits = cls(state).logits(held[0])
            target = np.array([names.index(label) for label in held[1]])
        return Fitted(cls({**state, "temperature": temperature(logits, target)}), logits)

    def logits(self, texts: Sequence[str], facts: Sequence[Facts] | None = None) -> Floats:
        """Return uncalibrated scores, one row per text, one column per label."""
        import numpy as np

        extra = _fact_rows(facts, self.facts, len(texts))
        scores: Floats = np.array(
            [self._logits(readable(text), row) for text, row in zip(texts, extra, strict=True)]
        )
        return scores.reshape(len(texts), len(self.labels))

    def _logits(self, text: str, facts: Sequence[float]) -> Floats:
        total = self._intercept + [*surface(text), *facts] @ self._blocks[-1]
        for vocabulary, block in zip(self._vocabularies, self._blocks[:-1], strict=True):
            columns, values = vocabulary.weigh(text)
            total = total + values @ block[columns]
        scores: Floats = total
        return scores

    def probabilities(self, texts: Sequence[str], facts: Sequence[Facts] | None = None) -> Floats:
        """Return calibrated probabilities, one row per text, one column per label."""
        return self.calibrated(self.logits(texts, facts))

    def calibrated(self, logits: Floats) -> Floats:
        """Return the probabilities that belong to `logits`."""
        return softmax(logits / self._temperature)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the most probable label of each text."""
        return [self.labels[i] for i in self.logits(texts).argmax(axis=1)]

    def explain(
        self, text: str, label: str, *, facts: Facts | None = None, top: int = 8
    ) -> list[Weight]:
        """Return the features that speak most for and against `label`, strongest first."""
        if label not in self.labels:
            raise ConfigError(f"no label {label!r}", hint=f"labels are {', '.join(self.labels)}")
        column = self.labels.index(label)
        read = readable(text)
        extra = _fact_rows([facts] if facts else None, self.facts, 1)[0]
        values = [*surface(read), *extra]
        parts = [
            Weight(name, value * float(block[column] - block.mean()))
            for name, value, block in zip(
                (*SURFACE, *self.facts), values, self._blocks[-1], strict=True
            )
        ]
        for vocabulary, block in zip(self._vocabularies, self._blocks[:-1], strict=True):
            for i, value in zip(*vocabulary.weigh(read), strict=True):
                weight = float(value * (block[i, column] - block[i].mean()))
                parts.append(Weight(repr(vocabulary.terms[i]), weight))
        return sorted((p for p in parts if p.weight), key=lambda p: -abs(p.weight))[:top]


class Fitted(NamedTuple):
    """A trained classifier, and its rows' out-of-fold logits (columns as its labels)."""

    model: TextClassifier
    logits: Floats


def _fact_rows(facts: Sequence[Facts] | None, names: Sequence[str], rows: int) -> list[list[float]]:
    if not names and facts is None:
        return [[]] * rows
    if facts is None or len(facts) != rows:
        raise ConfigError(
            f"{len(facts or ())} rows of facts for {rows} texts", hint="give one row per text"
        )
    try:
        return [[row[name] for name in names] for row in facts]
    except KeyError as error:
        raise ConfigError(
            f"a row lacks the fact {error}", hint="every row has every fact"
        ) from None


def check_rows(texts: Sequence[str], labels: Sequence[object]) -> None:
    """Refuse training rows that cannot be learned from, saying why."""
    if len(texts) != len(labels):
        raise ConfigError(
            f"{len(texts)} texts but {len(labels)} labels", hint="every row needs both"
        )
    if any(label is None or label == "" for label in labels):
        row = next(i for i, label in enumerate(labels) if label in (None, ""))
        raise ConfigError(f"row {row} has no label", hint="label it or leave it out")
    if len(set(labels)) < 2:
        found = next(iter(labels), None)
        raise ConfigError(
            f"one class only: every label is {found!r}" if len(labels) else "no rows to train on",
            hint="give examples of at least two labels",
        )


def softmax(logits: Floats) -> Floats:
    """Return probabilities of rows of logits."""
    import numpy as np

    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=1, keepdims=True)
    return shares


def temperature(logits: Floats, target: NDArray[np.int_]) -> float:
    """Return the divisor of the logits under which `target` is most likely."""
    import numpy as np
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(target))

    def loss(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[rows, target]))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


class Vocabulary:
    """The pieces that count, and how much: TF-IDF with logarithmic counts, of length 1."""

    def __init__(self, grams: str, shortest: int, longest: int, terms: str, idf: Floats) -> None:
        self.grams, self.shortest, self.longest = grams, shortest, longest
        self.terms = terms.split("\n")
        self.idf = idf
        self._cut = GRAMS[grams]
        self._columns = {term: i for i, term in enumerate(self.terms)}
        if len(self.terms) != len(idf):
            raise ValueError(f"{len(self.terms)} terms but {len(idf)} weights")

    def state(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {
            "grams": self.grams,
            "shortest": self.shortest,
            "longest": self.longest,
            "terms": "\n".join(self.terms),
            "idf": self.idf,
        }

    def weigh(self, text: str) -> tuple[NDArray[np.int_], Floats]:
        """Return the columns of the known pieces of `text`, and their values."""
        import numpy as np

        known = self._columns
        counts: dict[int, int] = {}
        for piece in self._cut(text, self.shortest, self.longest):
            column = known.get(piece)
            if column is not None:
                counts[column] = counts.get(column, 0) + 1
        columns = np.fromiter(counts, dtype=np.int64, count=len(counts))
        values = np.fromiter(counts.values(), dtype=np.float64, count=len(counts))
        values = (np.log(values) + 1) * self.idf[columns]
        length = float(np.sqrt(values @ values))
        return columns, values / length if length else values


def fit_design(
    texts: Sequence[str], recipe: Recipe, facts: Sequence[Sequence[float]]
) -> tuple[list[Vocabulary], Any]:
    """Return the vocabularies of `texts`, and their sparse matrix: surface and facts at its end."""
    import numpy as np
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    read = [readable(text) for text in texts]
    vocabularies, parts = [], []
    for name, (shortest, longest) in recipe.grams.items():
        vectorizer = TfidfVectorizer(
            analyzer=_cutter(name, shortest, longest),
            sublinear_tf=True,
            max_features=recipe.max_features,
            min_df=max(2, recipe.min_df) if name == "pairs" else recipe.min_df,
        )
        try:
            parts.append(vectorizer.fit_transform(read))
        except ValueError:  # no piece at all, or none in enough rows: one column of zeros
            parts.append(csr_matrix((len(read), 1)))
            vocabularies.append(Vocabulary(name, shortest, longest, "", np.zeros(1)))
            continue
        terms = "\n".join(vectorizer.get_feature_names_out())
        vocabularies.append(Vocabulary(name, shortest, longest, terms, vectorizer.idf_))
    blank = [0.0] * len(SURFACE)
    seen = [surface(text) if recipe.structure else blank for text in read]
    dense = [[*row, *more] for row, more in zip(seen, facts, strict=True)]
    parts.append(csr_matrix(np.array(dense)))
    return vocabularies, hstack(parts, format="csr")


def _cutter(name: str, shortest: int, longest: int) -> Callable[[str], Iterator[str]]:
    return lambda text: GRAMS[name](text, shortest, longest)


class Lines(NamedTuple):
    """One line per class: `weights` is classes by features."""

    weights: Floats
    intercept: Floats


def fit_lines(design: Any, target: NDArray[np.int_], recipe: Recipe) -> Lines:
    """Fit one line per class against all others (a single one for two classes).

    The dual solver is some thirty times faster than a multinomial one where there are more
    features than rows, and the temperature makes probabilities of either.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    classes = int(target.max()) + 1
    shared: dict[str, Any] = {
        "C": recipe.c,
        "dual": True,
        "class_weight": "balanced" if recipe.balanced else None,
        "tol": recipe.tol,
        "max_iter": 1000,
        "random_state": 0,
    }
    weights, intercepts = [], []
    for i in range(classes) if classes > 2 else (1,):
        made = (
            LinearSVC(**shared)
            if recipe.margin
            else LogisticRegression(solver="liblinear", **shared)
        )
        model = made.fit(design, target == i)
        weights.append(model.coef_[0])
        intercepts.append(model.intercept_[0])
    if classes == 2:
        weights = [-weights[0] / 2, weights[0] / 2]
        intercepts = [-intercepts[0] / 2, intercepts[0] / 2]
    return Lines(np.array(weights), np.array(intercepts))


def _out_of_fold(
    design: Any, target: NDArray[np.int_], recipe: Recipe, groups: Sequence[str] | None
) -> Floats:
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    classes = int(target.max()) + 1
    logits = np.zeros((len(target), classes))
    units = np.arange(len(target)) if groups is None else np.unique(groups, return_inverse=True)[1]
    folds = min(recipe.folds, len(np.unique(units)), int(np.bincount(target).max()))
    if folds < 2:
        raise ConfigError(
            "too few rows to calibrate on: all are one group, or no label occurs twice",
            hint="give at least two examples of each label, from two groups or more",
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    for train, test in _quietly(splitter, design, target, units):
        present, dense = np.unique(target[train], return_inverse=True)
        if len(present) > 1:
            lines = fit_lines(design[train], dense, recipe)
            logits[np.ix_(test, present)] = design[test] @ lines.weights.T + lines.intercept
    return logits


def _quietly(splitter: Any, design: Any, target: Any, units: Any) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a rare class has fewer rows than folds
        return list(splitter.split(design, target, units))


def split_blocks(coefficients: Floats, widths: Sequence[int]) -> list[Floats]:
    """Return the weights by vocabulary, then those of surface and facts; columns are classes."""
    import numpy as np

    edges = np.cumsum(widths)
    return [np.ascontiguousarray(part.T) for part in np.split(coefficients, edges, axis=1)]
