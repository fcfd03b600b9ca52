"""Near-duplicates: texts that say the same in other words, by words and by runs of letters.

Two TF-IDF views are averaged: words and pairs of words as they stand, and letters of the words
that carry meaning. Candidates come from each text's rarest features, so that the cost grows with
the number of texts and not with its square.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

REWORDED = 0.7
"""The similarity from which two texts count as the same one, reworded."""

ALIKE = 0.75
"""The similarity from which texts form a cluster; higher, since clusters chain."""

_FEATURES = 20  # of a text, that candidates must share
_CHUNK = 1_000
_WORD = re.compile(r"\w+")
_MANNERS = frozenset(
    [
        "please",
        "hi",
        "hello",
        "hey",
        "thanks",
        "thank",
        "you",
        "could",
        "can",
        "would",
        "like",
        "want",
        "tell",
        "me",
        "i",
        "was",
        "wondering",
        "quick",
        "question",
        "excuse",
        "ok",
        "so",
        "good",
        "morning",
        "if",
        "for",
        "asap",
        "right",
        "now",
        "the",
        "a",
        "an",
        "my",
        "some",
        "that",
        "just",
        "is",
        "are",
        "am",
        "do",
        "does",
        "to",
        "of",
        "in",
        "on",
        "it",
        "be",
        "will",
        "and",
    ]
)


class Pair(NamedTuple):
    """Text `row` of what was asked for resembles text `match` of the index."""

    row: int
    match: int
    score: float


def normal(text: str) -> str:
    """Return a text without case, accents, punctuation and spacing: equal ones are the same."""
    folded = unicodedata.normalize("NFKD", text).casefold().replace("'", "").replace("’", "")
    folded = "".join(c for c in folded if not unicodedata.combining(c))
    return " ".join(_WORD.findall(folded))


def _content(text: str) -> str:
    """Return the words that carry meaning, without their endings."""
    words = text.split()
    kept = [_stem(word) for word in words if word not in _MANNERS]
    return " ".join(kept or words)


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


class Index:
    """Finds among its texts those that resemble another one.

    >>> index = Index(["how do i cancel my order", "what is the weather in rome today"])
    >>> [pair.match for pair in index.similar(["please, how can i cancel my order"])]
    [0]
    """

    def __init__(self, texts: Sequence[str]) -> None:
        if not texts:
            raise ConfigError("there is no text to compare with", hint="give at least one row")
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        words.token_pattern = r"\w+"  # noqa: S105  # a pattern, no secret
        letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
        self._views: tuple[tuple[Any, Callable[[str], str]], ...] = (
            (words, str),
            (letters, _content),
        )
        shown = [normal(text) or "empty" for text in texts]
        for vectorizer, read in self._views:
            vectorizer.fit([read(text) for text in shown])
        self._matrix = self._vectors(shown)
        self._keys = _rarest(self._matrix).T.tocsr()

    def similar(self, texts: Sequence[str], threshold: float = REWORDED) -> Iterator[Pair]:
        """Yield the pairs at or above a similarity (1 is the same), best first for each text."""
        for start in range(0, len(texts), _CHUNK):
            vectors = self._vectors([normal(t) or "empty" for t in texts[start : start + _CHUNK]])
            shared = _rarest(vectors) @ self._keys
            for row in range(vectors.shape[0]):
                found = shared.indices[shared.indptr[row] : shared.indptr[row + 1]]
                if not len(found):
                    continue
                scores = (self._matrix[found] @ vectors[row].T).toarray().ravel()
                for i in scores.argsort()[::-1]:
                    if scores[i] < threshold:
                        break
                    yield Pair(start + row, int(found[i]), float(scores[i]))

    def _vectors(self, shown: Sequence[str]) -> csr_matrix:
        from scipy.sparse import hstack

        parts = [v.transform([read(text) for text in shown]) for v, read in self._views]
        joined: Any = hstack(parts, format="csr") * 0.5**0.5
        return joined


def _rarest(vectors: Any) -> Any:
    """Return the vectors with each row's heaviest features only."""
    import numpy as np
    from scipy.sparse import csr_matrix

    keep, starts = [], [0]
    for row in range(vectors.shape[0]):
        lo, hi = vectors.indptr[row], vectors.indptr[row + 1]
        chosen = np.argsort(-vectors.data[lo:hi], kind="stable")[:_FEATURES] + lo
        keep.append(chosen)
        starts.append(starts[-1] + len(chosen))
    at = np.concatenate(keep) if keep else np.zeros(0, dtype=int)
    return csr_matrix((vectors.data[at], vectors.indices[at], starts), shape=vectors.shape)


class Groups:
    """Union-find: things that belong together, joined one pair at a time."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, key: str) -> str:
        """Return the name of a key's group; an unknown key is a group of its own."""
        parent = self._parent.setdefault(key, key)
        while parent != self._parent[parent]:
            self._parent[parent] = self._parent[self._parent[parent]]
            parent = self._parent[parent]
        self._parent[key] = parent
        return parent

    def join(self, one: str, other: str) -> None:
        """Put two keys' groups together; the smaller name stays, whatever the order."""
        a, b = sorted((self.root(one), self.root(other)))
        self._parent[b] = a


def clusters(texts: Iterable[str], threshold: float = ALIKE) -> list[int]:
    """Return a cluster number for each text: texts of one cluster say the same."""
    given = list(texts)
    unique = {text: i for i, text in enumerate(dict.fromkeys(map(normal, given)))}
    groups = Groups()
    shown = list(unique)
    if shown:
        for pair in Index(shown).similar(shown, threshold):
            if pair.row < pair.match:
                groups.join(f"{pair.row:09}", f"{pair.match:09}")
    return [int(groups.root(f"{unique[normal(text)]:09}")) for text in given]
