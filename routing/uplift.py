"""How much a stronger tier would add on a request: P(strong is right) - P(weak is right).

Uplift, not difficulty: on a request that both tiers fail, the strong one is money for nothing.
Two parts are mixed. Words know the subjects that were seen; structure (length, numbers, choices)
knows less, and holds on subjects that nobody has seen. The mix is chosen out of fold, across
groups where groups are given: so a router that must meet new subjects leans on structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.errors import ConfigError
from agentmesh.routing.classifier import Recipe, Vocabulary, fit_design, fit_lines, split_blocks
from agentmesh.routing.evaluation import curve
from agentmesh.routing.features import readable, surface

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RECIPE = Recipe(c=0.3, max_features=30_000, min_df=2)
BINS = 6
SHRINK = 1500.0
"""How many rows' worth of doubt every bin of the structural part is met with."""
MIXES = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0)


class FittedUplift(NamedTuple):
    """A trained model, and its rows' scores by models that had not seen them."""

    model: UpliftModel
    scores: Floats


class UpliftModel:
    """Predicts by how much the strong tier would do better on a text.

    Example:
        fitted = UpliftModel.cross_fit(texts, weak_right, strong_right)
        fitted.model.uplift(["Find the degree of the field extension"])[0]      # about 0.3
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self._vocabularies = [Vocabulary(**part) for part in state["vocabularies"]]
        self._weak: list[Floats] = state["weak"]
        self._strong: list[Floats] = state["strong"]
        self._bins = _Bins(state["edges"])
        self.mix = float(state["mix"])

    @classmethod
    def cross_fit(
        cls,
        texts: Sequence[str],
        weak: Sequence[bool],
        strong: Sequence[bool],
        *,
        groups: Sequence[str] | None = None,
        folds: int = 5,
        recipe: Recipe = RECIPE,
    ) -> FittedUplift:
        """Train on what both tiers got right; rows of one group never judge each other.

        Only labels are kept from a fold; the vocabulary is that of all texts.
        """
        import numpy as np

        w, s = _results(texts, weak, strong)
        vocabularies, design = fit_design(texts, recipe, [[]] * len(texts))
        dense = np.array([surface(readable(text)) for text in texts])
        words, structure = np.zeros(len(texts)), np.zeros(len(texts))
        fold = _folds(2 * s + w, groups, folds)
        for k in range(fold.max() + 1):
            train, test = fold != k, fold == k
            lines = _pair(design[train], w[train], s[train], recipe)
            words[test] = _difference(design[test], lines)
            bins = _Bins.of(dense[train])
            weights = _shrunk(bins.onehot(dense[train]), (s - w)[train])
            structure[test] = bins.onehot(dense[test]) @ weights
        parts = np.column_stack([words / words.std(), structure / structure.std()])
        mixes = [
            _best_mix(parts[fold != k], w[fold != k], s[fold != k]) for k in range(fold.max() + 1)
        ]
        chosen = np.array(mixes)[fold]
        scores = chosen * parts[:, 0] + (1 - chosen) * parts[:, 1]
        mix = _best_mix(parts, w, s)
        slope, offset = np.polyfit(mix * parts[:, 0] + (1 - mix) * parts[:, 1], s - w, 1)
        lines = _pair(design, w, s, recipe)
        bins = _Bins.of(dense)
        widths = [len(v.idf) for v in vocabularies]
        state = {
            "vocabularies": [v.state() for v in vocabularies],
            "weak": [*split_blocks(lines[0].weights, widths), lines[0].intercept],
            "strong": [*split_blocks(lines[1].weights, widths), lines[1].intercept],
            "edges": bins.edges,
            "structure": _shrunk(bins.onehot(dense), s - w),
            "spread": np.array([words.std(), structure.std()]),
            "line": np.array([max(0.0, slope), offset]),
            "mix": mix,
        }
        return FittedUplift(cls(state), scores)

    def scores(self, texts: Sequence[str]) -> Floats:
        """Return what rows are ordered by: the higher, the more the strong tier adds."""
        import numpy as np

        read = [readable(text) for text in texts]
        dense = np.array([surface(text) for text in read]).reshape(len(read), -1)
        structure = self._bins.onehot(dense) @ self.state["structure"]
        words = np.array([self._words(t, row) for t, row in zip(read, dense, strict=True)])
        spread = self.state["spread"]
        total: Floats = self.mix * words / spread[0] + (1 - self.mix) * structure / spread[1]
        return total

    def uplift(self, texts: Sequence[str]) -> Floats:
        """Return the expected gain in correctness, within -1 and 1."""
        import numpy as np

        slope, offset = self.state["line"]
        gain: Floats = np.clip(slope * self.scores(texts) + offset, -1.0, 1.0)
        return gain

    def _words(self, text: str, row: Floats) -> float:
        sides = []
        weighed = [vocabulary.weigh(text) for vocabulary in self._vocabularies]
        for *blocks, last, intercept in (self._weak, self._strong):
            margin = row @ last[:, 1] + intercept[1]
            for (columns, values), block in zip(weighed, blocks, strict=True):
                margin += values @ block[columns, 1]
            sides.append(_probability(2 * margin))
        return float(sides[1] - sides[0])


class _Bins:
    """Cuts every structural feature into a few intervals, one column each."""

    def __init__(self, edges: list[Floats]) -> None:
        self.edges = edges

    @classmethod
    def of(cls, dense: Floats) -> _Bins:
        import numpy as np

        cuts = np.linspace(0, 1, BINS + 1)[1:-1]
        return cls([np.unique(np.quantile(column, cuts)) for column in dense.T])

    def onehot(self, dense: Floats) -> Floats:
        import numpy as np

        parts = []
        for column, edges in zip(dense.T, self.edges, strict=True):
            part = np.zeros((len(dense), len(edges) + 1))
            part[np.arange(len(dense)), np.searchsorted(edges, column)] = 1
            parts.append(part)
        return np.hstack(parts)


def _results(
    texts: Sequence[str], weak: Sequence[bool], strong: Sequence[bool]
) -> tuple[Floats, Floats]:
    import numpy as np

    if not len(texts) == len(weak) == len(strong):
        raise ConfigError(
            f"{len(texts)} texts, {len(weak)} weak and {len(strong)} strong results",
            hint="every row needs a text and both results",
        )
    if any(value is None for value in (*weak, *strong)):
        raise ConfigError("a result is missing", hint="label every row for both tiers")
    w, s = np.asarray(weak, dtype=float), np.asarray(strong, dtype=float)
    for name, values in (("weak", w), ("strong", s)):
        if len(np.unique(values)) < 2:
            raise ConfigError(
                f"one class only: the {name} tier is always the same",
                hint="give rows that it gets right and rows that it gets wrong",
            )
    return w, s


def _folds(strata: Floats, groups: Sequence[str] | None, folds: int) -> NDArray[np.int_]:
    """Return the fold of every row: stratified, or whole groups at a time."""
    import numpy as np

    rng = np.random.default_rng(0)
    if groups is None:
        order = np.lexsort((rng.random(len(strata)), strata))
        fold = np.empty(len(strata), dtype=int)
        fold[order] = np.arange(len(strata)) % folds
        return fold
    names, unit = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ConfigError("all rows are one group", hint="training needs at least two groups")
    place = np.empty(len(names), dtype=int)
    place[rng.permutation(len(names))] = np.arange(len(names)) % min(folds, len(names))
    return place[unit]


def _pair(design: Any, w: Floats, s: Floats, recipe: Recipe) -> tuple[Any, Any]:
    return (fit_lines(design, w.astype(int), recipe), fit_lines(design, s.astype(int), recipe))


def _difference(design: Any, lines: tuple[Any, Any]) -> Floats:
    weak, strong = (
        _probability(2 * (design @ line.weights[1] + line.intercept[1])) for line in lines
    )
    gap: Floats = strong - weak
    return gap


def _probability(margin: Any) -> Any:
    import numpy as np

    return 1 / (1 + np.exp(-margin))


def _shrunk(onehot: Floats, gain: Floats) -> Floats:
    """Return ridge weights of the bins, centred so that a row of average bins scores 0."""
    import numpy as np

    mean = onehot.mean(axis=0)
    centred = onehot - mean
    gram = centred.T @ centred + SHRINK * np.eye(onehot.shape[1])
    weights: Floats = np.linalg.solve(gram, centred.T @ (gain - gain.mean()))
    return weights


def _best_mix(parts: Floats, w: Floats, s: Floats) -> float:
    """Return the share of words with the largest area, the plainer mix where it is a tie."""
    best = max(MIXES, key=lambda m: round(curve(parts @ [m, 1 - m], w, s).apgr, 3))
    return float(best)
