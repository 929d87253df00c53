"""Beginnings of texts as prompts: what a language model is asked to go on from."""

from collections.abc import Iterable, Iterator

import numpy as np

from rlhf_jax.data.records import Prompt, Text
from rlhf_jax.errors import InputError


def openings(
    texts: Iterable[Text],
    *,
    per_text: int = 1,
    min_words: int = 8,
    max_words: int = 24,
    seed: int = 0,
) -> Iterator[Prompt]:
    """Each text cut after so many words, at several places where asked.

    The cuts of a text depend on its id and the seed alone. Prompts keep the text's
    split, and the text is their group, so that a split never tears it apart.

    >>> text = Text(id="a", text="One day, a little fish named Fin swam home.")
    >>> [p.prompt for p in openings([text], min_words=3, max_words=3)]
    ['One day, a']

    Args:
      texts: what is cut; one that is not longer than the cut is left out.
      per_text: prompts of each text, all different; fewer where it is short.
      min_words, max_words: words of a prompt, both ends included.
      seed: of the places.

    Raises:
      InputError: numbers that leave no prompt.
    """
    if not 1 <= min_words <= max_words or per_text < 1:
        raise InputError(
            f"openings: expected per_text of at least 1 and 1 <= min_words <= "
            f"max_words, got {per_text}, {min_words} and {max_words}"
        )
    for record in texts:
        words = record.text.split(" ")
        rng = np.random.default_rng([seed, *record.id.encode()])
        places = range(min_words, min(max_words, len(words) - 1) + 1)
        chosen = rng.permutation(np.array(places, int))[:per_text]
        for number in sorted(chosen.tolist()):
            prompt = " ".join(words[:number]).strip()
            if prompt:
                yield Prompt(
                    id=f"{record.id}/{number}",
                    prompt=prompt,
                    group=record.split_key,
                    split=record.split,
                    source=record.source,
                    meta={"text": record.id},
                )
