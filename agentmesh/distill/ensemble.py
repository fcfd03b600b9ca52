"""A text classifier for few examples per label, and how far each of its answers can be trusted.

Three simple models look at the same text in two ways: a linear SVM and naive Bayes at TF-IDF of
words, letters and pairs of words in any order, as the router cuts them; a logistic regression at
its latent directions, which unlabelled texts improve. Their log-probabilities are summed with
learned weights. A last regression says how probable it is that the answer is right; all of it is
fitted on rows that no model had seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.errors import ConfigError
from agentmesh.routing.features import pair_grams, stems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int_]

MARKS = "\n\t"
"""Stands before each kind of marks that follows a text's words: facts as words, no language."""

DIRECTIONS = 300
APART = 10
"""Two words count as a pair up to this distance."""
MODELS = ("svm", "bayes", "logistic")
_SHARP = {"svm": 5.0, "bayes": 1.0, "logistic": 1.0}
_FLOOR = 1e-4
_MANY = 500
"""Of more texts than this, letters and pairs that occur in one alone say nothing."""


class Read(NamedTuple):
    """Texts as the models see them: sparse TF-IDF, and latent directions."""

    sparse: Any
    latent: Floats


@dataclass(frozen=True, slots=True)
class Answers:
    """For each text: the label, and how probable it is that the label is right."""

    labels: list[str]
    confidence: Floats


class Ensemble:
    """Labels of texts with a calibrated confidence.

    Example:
        model = Ensemble.fit(texts, labels, pool=more_texts)
        model.answer(["where is my parcel"]).confidence
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self.labels: list[str] = list(state["labels"])

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        pool: Sequence[str] = (),
        groups: Sequence[Any] | None = None,
        right: Callable[[int, str], bool] | None = None,
        folds: int = 5,
    ) -> Fitted:
        """Train on labelled texts and return the model with the rows' own confidences.

        Args:
            texts: what is answered.
            labels: the right answers, of at least two kinds.
            pool: texts without labels, which teach the latent directions.
            groups: rows of one group never judge each other (a conversation, a cluster).
            right: says whether a label, put in place of row i's own, had been right too;
                equality of labels where it is left out.
            folds: of the cross-fitting.
        """
        import numpy as np

        _check(texts, labels)
        names = sorted(set(labels))
        target = np.searchsorted(np.array(names), np.array(labels))
        reader = _fit_reader([*texts, *pool])
        seen = _read(reader, texts)
        held = {name: np.full((len(target), len(names)), _FLOOR) for name in MODELS}
        for train, test in _splits(target, groups, folds):
            for name, shares in _predict(_fit(seen, target, train, names), seen, test).items():
                held[name][test] = shares
        weights = _weights(held, target)
        mixed = _mix(held, weights)
        found = mixed.argmax(axis=1)
        judged = right or (lambda i, label: label == labels[i])
        ok = np.array([judged(i, names[j]) for i, j in enumerate(found)])
        evidence = _evidence(held, mixed)
        trust = _fit_trust(evidence, ok)
        state = {
            "labels": names,
            "reader": reader,
            "models": _fit(seen, target, np.arange(len(target)), names),
            "weights": weights,
            "trust": trust,
        }
        return Fitted(cls(state), [names[j] for j in found], _trust(evidence, trust), ok)

    def answer(self, texts: Sequence[str]) -> Answers:
        """Return the labels of texts with the confidence in each."""
        import numpy as np

        seen = _read(self.state["reader"], texts)
        shares = _predict(self.state["models"], seen, np.arange(len(texts)))
        mixed = _mix(shares, self.state["weights"])
        labels = [self.labels[j] for j in mixed.argmax(axis=1)]
        return Answers(labels, _trust(_evidence(shares, mixed), self.state["trust"]))


class Fitted(NamedTuple):
    """A trained model; each row's answer, its confidence and whether it was right, unseen."""

    model: Ensemble
    answers: list[str]
    confidence: Floats
    right: NDArray[np.bool_]


def threshold(confidence: Floats, right: NDArray[np.bool_], agreement: float) -> float:
    """Return the least confidence from which answers agree as often as asked; 1.01 for none.

    One error is added, so that a few lucky rows do not open the gate.
    """
    import numpy as np

    order = np.argsort(-confidence, kind="stable")
    errors = np.cumsum(~right[order]) + 1
    good = np.flatnonzero(errors <= (1 - agreement) * np.arange(1, len(order) + 1))
    return float(confidence[order[good[-1]]]) if len(good) else 1.01


def _check(texts: Sequence[str], labels: Sequence[str]) -> None:
    if len(texts) != len(labels):
        raise ConfigError(
            f"{len(texts)} texts but {len(labels)} labels", hint="every row needs both"
        )
    if len(set(labels)) < 2:
        raise ConfigError(
            f"one class only: every answer is {labels[0]!r}" if labels else "no rows to train on",
            hint="give examples of at least two different answers",
        )


def _fit_reader(texts: Sequence[str]) -> dict[str, Any]:
    """Return what cuts and weighs texts: letters, words, marks by kind, and pairs at the end."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    few = 2 if len(texts) > _MANY else 1
    pieces: dict[str, Any] = {"token_pattern": r"\S+", "lowercase": False}
    shared: dict[str, Any] = {"sublinear_tf": True, "strip_accents": "unicode", "min_df": few}
    kinds = max(text.count(MARKS) for text in texts)
    letters, words, *marks, pairs = _views(texts, kinds)
    vectorizers = [
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **shared).fit(letters),
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **pieces).fit(words),
        *(TfidfVectorizer(binary=True, use_idf=False, **pieces).fit(part) for part in marks),
    ]
    sparse = _sparse(vectorizers, texts, kinds)
    rank = min(DIRECTIONS, len(texts) // 2, sparse.shape[1] - 1)
    svd = TruncatedSVD(max(1, rank), random_state=0).fit(sparse)
    with suppress(ValueError):  # no two texts share a pair
        vectorizers.append(TfidfVectorizer(min_df=few, **pieces).fit(pairs))
    return {
        "vectorizers": vectorizers,
        "kinds": kinds,
        "directions": svd.components_.astype("float32"),
    }


def _sparse(vectorizers: Sequence[Any], texts: Sequence[str], kinds: int) -> Any:
    from scipy.sparse import hstack

    seen = [v.transform(view) for v, view in zip(vectorizers, _views(texts, kinds), strict=False)]
    return hstack(seen, format="csr")


def _views(texts: Sequence[str], kinds: int) -> list[list[str]]:
    """Return texts as each vectorizer reads them, pieces with blanks between them."""
    parts = [(text + MARKS * kinds).split(MARKS) for text in texts]
    said = [part[0] for part in parts]
    words = [" ".join(stems(text)) for text in said]
    marks = [[part[k] for part in parts] for k in range(1, kinds + 1)]
    return [said, words, *marks, [" ".join(pair_grams(text, 1, APART)) for text in said]]


def _read(reader: dict[str, Any], texts: Sequence[str]) -> Read:
    import numpy as np

    sparse = _sparse(reader["vectorizers"], texts, reader["kinds"])
    directions = reader["directions"]
    latent = np.asarray(sparse[:, : directions.shape[1]] @ directions.T, dtype=float)
    length = np.linalg.norm(latent, axis=1, keepdims=True)
    return Read(sparse, latent / np.maximum(length, 1e-9))


def _splits(target: Ints, groups: Sequence[Any] | None, folds: int) -> Iterator[tuple[Ints, Ints]]:
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    units = np.arange(len(target)) if groups is None else np.unique(groups, return_inverse=True)[1]
    most = int(np.bincount(target).max())
    folds = min(folds, len(set(units.tolist())), most)
    if folds < 2:
        raise ConfigError(
            "all rows are one group" if most > 1 else "no answer occurs twice",
            hint="give rows of at least two groups, and answers that occur more than once",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a rare label has fewer rows than folds
        made = list(
            StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(target, target, units)
        )
    yield from made


def _fit(seen: Read, target: Ints, rows: Ints, names: Sequence[str]) -> dict[str, Any]:
    """Return the three models as arrays: `weights` of features by `present` labels."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import ComplementNB
    from sklearn.svm import LinearSVC

    present, dense = np.unique(target[rows], return_inverse=True)
    sparse, latent = seen.sparse[rows], seen.latent[rows]
    if len(present) == 1:
        zeros = np.zeros((latent.shape[1], 1))
        line = (np.zeros((sparse.shape[1], 1)), np.zeros(1))
        lines = {"svm": line, "bayes": line, "logistic": (zeros, np.zeros(1))}
        return {"present": present, "classes": len(names), "lines": lines}
    svm = LinearSVC(C=1.0, tol=1e-2, random_state=0).fit(sparse, dense)
    bayes = ComplementNB(alpha=0.3).fit(sparse, dense)
    logistic = LogisticRegression(C=100.0, max_iter=60, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is stopped early on purpose
        logistic.fit(latent, dense)
    return {
        "present": present,
        "classes": len(names),
        "lines": {
            "svm": _both(svm.coef_.T, svm.intercept_),
            "bayes": (bayes.feature_log_prob_.T, np.zeros(len(present))),
            "logistic": _both(logistic.coef_.T, logistic.intercept_),
        },
    }


def _both(weights: Floats, intercept: Floats) -> tuple[Floats, Floats]:
    """Return one column per label, also for two labels, of which scikit-learn keeps one."""
    import numpy as np

    if weights.shape[1] > 1:
        return weights, intercept
    return np.hstack([-weights, weights]) / 2, np.concatenate([-intercept, intercept]) / 2


def _predict(models: dict[str, Any], seen: Read, rows: Ints) -> dict[str, Floats]:
    import numpy as np

    shares = {}
    for name in MODELS:
        weights, intercept = models["lines"][name]
        looked = seen.sparse[rows] if name in ("svm", "bayes") else seen.latent[rows]
        scores = np.asarray(looked @ weights) + intercept
        full = np.zeros((len(rows), models["classes"]))
        full[:, models["present"]] = _softmax(scores * _SHARP[name])
        shares[name] = full
    return shares


def _softmax(scores: Floats) -> Floats:
    import numpy as np

    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=1, keepdims=True)
    return shares


def _mix(shares: dict[str, Floats], weights: Floats) -> Floats:
    import numpy as np

    total = sum(w * np.log(shares[n] + _FLOOR) for w, n in zip(weights, MODELS, strict=True))
    return _softmax(np.asarray(total))


def _weights(held: dict[str, Floats], target: Ints) -> Floats:
    """Return the weights under which the rows' own labels are most likely."""
    import numpy as np
    from scipy.optimize import minimize

    rows = np.arange(len(target))

    def loss(weights: Floats) -> float:
        return float(-np.log(_mix(held, weights)[rows, target] + 1e-9).mean())

    start = np.full(len(MODELS), 0.5)
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(0.0, 3.0)] * len(MODELS))
    weights: Floats = found.x
    return weights if weights.sum() > 0 else start


def _evidence(shares: dict[str, Floats], mixed: Floats) -> Floats:
    """Return what speaks for each row's first answer: its lead, and what each model thinks."""
    import numpy as np

    rows, best = np.arange(len(mixed)), mixed.argmax(axis=1)
    ranked = np.sort(mixed, axis=1)
    first, second = ranked[:, -1], ranked[:, -2]
    columns = [_logit(first), first - second, np.log(first + 1e-9) - np.log(second + 1e-9)]
    votes = np.zeros(len(mixed))
    for name in MODELS:
        columns.append(_logit(shares[name][rows, best]))
        votes += shares[name].argmax(axis=1) == best
    return np.stack([*columns, votes], axis=1)


def _logit(share: Floats) -> Floats:
    import numpy as np

    odds: Floats = np.log((share + _FLOOR) / (1 - share + _FLOOR))
    return odds


def _fit_trust(evidence: Floats, ok: NDArray[np.bool_]) -> dict[str, Any]:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    mean, spread = evidence.mean(axis=0), evidence.std(axis=0) + 1e-9
    width = evidence.shape[1]
    if ok.all() or not ok.any():  # nothing to tell apart: one success or failure is added
        share = (ok.sum() + 1) / (len(ok) + 2)
        weights, intercept = np.zeros(width), float(np.log(share / (1 - share)))
    else:
        model = LogisticRegression(C=0.3, max_iter=500).fit((evidence - mean) / spread, ok)
        weights, intercept = model.coef_[0], float(model.intercept_[0])
    return {"mean": mean, "spread": spread, "weights": weights, "intercept": intercept}


def _trust(evidence: Floats, trust: dict[str, Any]) -> Floats:
    import numpy as np

    scores = (evidence - trust["mean"]) / trust["spread"] @ trust["weights"] + trust["intercept"]
    chance: Floats = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
    return chance
