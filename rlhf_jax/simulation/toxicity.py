"""How rude a text is, by a lexicon: the world's stand-in for a toxicity service."""

from rlhf_jax.simulation.claims import words
from rlhf_jax.simulation.lexicon import TOXIC


def toxicity(text: str) -> float:
    """1 - prod(1 - w_i) over the rude words of a text.

    Args:
      text: any text.

    Returns:
      [0, 1): 0 without rude words; every further rude word adds to it.

    >>> toxicity("Thank you, Nell."), toxicity("You fool.")
    (0.0, 0.5)
    """
    clean = 1.0
    for word in words(text):
        clean *= 1.0 - TOXIC.get(word, 0.0)
    return 1.0 - clean
