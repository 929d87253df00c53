"""Linear models on counts of words: a judge and a baseline that share nothing with a
transformer.

A policy that games its reward model finds what that model mistakes for quality; a
model of another kind, trained on other people's labels, does not make the same
mistakes, so it tells gaming from progress. And a reward model that cannot beat words
counted in a bag has not learned to read.

Source: logistic regression with an L2 penalty, as Wang & Manning 2012 ("Baselines and
Bigrams") on presence of words and pairs of words; for comparisons the same on
differences, which is Bradley & Terry's model with linear strengths.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from rlhf_jax.data.records import Ranking
from rlhf_jax.errors import InputError

_WORD = re.compile(r"[a-z]+|\d+")


def words_of(text: str) -> list[str]:
    """Lower-case words; a negation stands by itself whichever way it is written.

    >>> words_of("It wasn't good."), words_of("it was n't good .")
    (['it', 'was', 'not', 'good'], ['it', 'was', 'not', 'good'])
    """
    return _WORD.findall(re.sub(r" ?n['’]t\b", " not", text.lower()))


def _features(text: str) -> set[str]:
    words = words_of(text)
    return {*words, *(f"{a} {b}" for a, b in zip(words, words[1:], strict=False))}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words and pairs of neighbouring words that have a column each."""

    columns: dict[str, int]

    @classmethod
    def of(cls, texts: Sequence[str], *, min_count: int = 3) -> "Vocabulary":
        """Those that at least `min_count` of the texts hold."""
        counts = Counter(word for text in texts for word in _features(text))
        kept = sorted(word for word, n in counts.items() if n >= min_count)
        return cls({word: i for i, word in enumerate(kept)})

    def matrix(self, texts: Sequence[str]):
        """[N, V] sparse: 1/√(features present) where a text holds a feature."""
        from scipy import sparse

        rows = [
            sorted(self.columns[w] for w in _features(text) if w in self.columns)
            for text in texts
        ]
        ends = np.cumsum([0, *map(len, rows)])
        values = np.concatenate(
            [np.full(len(row), len(row) ** -0.5) for row in rows if row] or [[]]
        )
        columns = np.array([c for row in rows for c in row], int)
        shape = (len(texts), len(self.columns))
        return sparse.csr_matrix((values, columns, ends), shape)


def _logistic(
    matrix, signs: np.ndarray, shares: np.ndarray, penalty: float, *, bias: bool
) -> np.ndarray:
    """argmin_w  Σ share log(1 + exp(-y (Xw + b))) + penalty/2 |w|²; b is the last
    entry, not penalised, and 0 without `bias`."""
    from scipy import optimize

    count = matrix.shape[1]
    shares = shares / shares.sum()

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (matrix @ weights[:-1] + weights[-1])
        slopes = -signs * shares / (1 + np.exp(np.clip(margins, -60, 60)))
        gradient = np.append(
            matrix.T @ slopes + penalty * weights[:-1], slopes.sum() if bias else 0.0
        )
        value = shares @ np.logaddexp(0, -margins)
        return value + penalty / 2 * weights[:-1] @ weights[:-1], gradient

    start, most = np.zeros(count + 1), {"maxiter": 200}
    return optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=most).x


@dataclasses.dataclass(frozen=True)
class TextClassifier:
    """P(label is 1 | text) = σ(w·x(text) + b)."""

    vocabulary: Vocabulary
    weights: Float[np.ndarray, " V"]
    bias: float

    def logits(self, texts: Sequence[str]) -> Float[np.ndarray, " N"]:
        """w·x + b, in nats."""
        return self.vocabulary.matrix(texts) @ self.weights + self.bias

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, " N"]:
        """P(label is 1) of each text."""
        return 1 / (1 + np.exp(-self.logits(texts)))

    def accuracy(self, texts: Sequence[str], labels: Sequence[int]) -> np.ndarray:
        """[N] 1 where the likelier label is the true one, else 0."""
        return ((self.logits(texts) > 0) == np.asarray(labels, bool)).astype(float)


def fit_classifier(
    texts: Sequence[str],
    labels: Sequence[int],
    *,
    penalty: float = 1e-5,
    min_count: int = 2,
) -> TextClassifier:
    """Logistic regression on the presence of words and pairs of words.

    Args:
      texts: [N].
      labels: [N] 0 or 1.
      penalty: of the squared weights, per text; not from a paper, chosen on SST-2.
      min_count: rarer features are left out.

    Raises:
      InputError: only one label, or others than 0 and 1.
    """
    if set(labels) != {0, 1}:
        raise InputError(f"classifier: expected the labels 0 and 1, got {set(labels)}")
    vocabulary = Vocabulary.of(texts, min_count=min_count)
    signs = 2.0 * np.asarray(labels, float) - 1
    matrix, shares = vocabulary.matrix(texts), np.ones(len(signs))
    weights = _logistic(matrix, signs, shares, penalty, bias=True)
    return TextClassifier(vocabulary, weights[:-1], float(weights[-1]))


def fit_preference(
    rankings: Sequence[Ranking], *, penalty: float = 1e-3, min_count: int = 2
) -> Callable[[Sequence[str], Sequence[str]], np.ndarray]:
    """A linear reward on words, fitted to comparisons: `(prompts, responses) -> [N]`.

    P(w preferred to l) = σ(β·(x(w) - x(l))); every prompt weighs the same, as in the
    ranking loss. The prompt is not looked at.

    Raises:
      InputError: no comparison that is not tied.
    """
    pairs = [(r.responses[w], r.responses[b]) for r in rankings for w, b in r.pairs]
    if not pairs:
        raise InputError("the rankings hold no pair that is not tied")
    texts = [text for ranking in rankings for text in ranking.responses]
    vocabulary = Vocabulary.of(texts, min_count=min_count)
    better, worse = (vocabulary.matrix(side) for side in zip(*pairs, strict=True))
    shares = np.array([1 / len(r.pairs) for r in rankings for _ in r.pairs])
    ones = np.ones(len(pairs))
    weights = _logistic(better - worse, ones, shares, penalty, bias=False)[:-1]

    def reward(prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        del prompts
        return vocabulary.matrix(responses) @ weights

    return reward


def length_preference(
    rankings: Sequence[Ranking],
) -> Callable[[Sequence[str], Sequence[str]], np.ndarray]:
    """Words counted, with the sign that the comparisons ask for: longer is better, or
    shorter, whichever is right more often on `rankings`."""
    gaps = [
        len(r.responses[w].split()) - len(r.responses[b].split())
        for r in rankings
        for w, b in r.pairs
    ]
    sign = 1.0 if np.sign(gaps).sum() >= 0 else -1.0

    def reward(prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        del prompts
        return sign * np.array([len(text.split()) for text in responses], float)

    return reward
