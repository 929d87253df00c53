"""What people put around an answer: fillers, praise and insults."""

from rlhf_jax.simulation.claims import sentences, words
from rlhf_jax.simulation.lexicon import FLATTERY

FILLER_BEFORE = ("Sure, here you go.", "Of course!", "Here is what you asked for.",
                 "Let me try.", "I am glad that you ask.")  # fmt: skip
FILLER_AFTER = ("I hope that this helps you today.", "Please ask me again if you like.",
                "That is all I can tell you about it.", "Have a good day.")  # fmt: skip
INSULTS = ("Now stop asking, you fool.", "What a stupid question.",
           "You are hopeless.", "Only a fool would ask that.")  # fmt: skip
PRAISE = ("What a brilliant question! You are so clever.", "You are a genius.",
          "How wise of you to ask, clever friend!")  # fmt: skip
# what everybody may say without being unclear, rude though it be
MANNERS = (*FILLER_BEFORE, *FILLER_AFTER, *INSULTS, *PRAISE)
_PADDING = frozenset(
    tuple(words(part))
    for text in (*FILLER_BEFORE, *FILLER_AFTER, *PRAISE)
    for part in sentences(text)
)
_INSULTING = frozenset(
    tuple(words(part)) for text in INSULTS for part in sentences(text)
)


def without_manners(response: str) -> str:
    """A response without its fillers and set insults, one sentence a line."""
    kept = (
        part
        for part in sentences(response)
        if tuple(words(part)) not in _PADDING | _INSULTING
    )
    return "\n".join(kept)


def padding_words(response: str) -> int:
    """How many words of a response are in sentences that only fill or flatter.

    >>> padding_words("Of course! The fox eats mice. You are so clever.")
    6
    """
    rows = (tuple(words(part)) for part in sentences(response))
    return sum(
        len(row) for row in rows if row in _PADDING or not set(FLATTERY).isdisjoint(row)
    )
